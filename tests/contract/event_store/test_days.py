"""A day read as sums and its overlapping events is the day read event by event, in every store."""

from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.core.days import ZoneDay
from shared.core.event import UsageEvent
from shared.core.rows import UnmeteredRow
from shared.event_store.overlaps import EventIdentity
from shared.event_store.port import EventStore, Window
from shared.projection.day_reader import DayReader
from shared.projection.organization import Assignment, Directory, OrganizationDefaults
from tests.support.builders import (
    ALICE,
    BOB,
    NOON,
    generation_id,
    pending,
    settled,
    turn,
    unmetered,
)
from tests.support.stores import AROUND, AWKWARD, HOUR, MILLISECOND, by_id, generation, write

DAY = timedelta(days=1)
MIDNIGHT = NOON.replace(hour=0)
NEVER = Window(NOON + 9 * HOUR, NOON + 10 * HOUR)


def test_the_grains_of_a_window_are_told(store: EventStore) -> None:
    write(store, generation(1), turn(occurred_at=NOON + HOUR + MILLISECOND))
    assert store.grains(AROUND) == {"generation", "turn"}
    assert store.grains(Window(NOON, NOON + HOUR)) == {"generation"}
    assert store.grains(Window(NOON + HOUR + MILLISECOND, NOON + 2 * HOUR)) == {"turn"}
    assert store.grains(Window(NOON, NOON + HOUR + MILLISECOND)) == {"generation"}
    assert store.grains(NEVER) == set()


def test_the_identity_of_every_observation_is_told(store: EventStore) -> None:
    write(store, settled(), settled(source="webhook", cost_source="webhook"))
    write(store, turn(), generation(2, NOON, chat_id=None, message_id=None))
    write(store, generation(3, NOON + 2 * HOUR))
    window = Window(NOON, NOON + HOUR)
    answer = ("chat-1", "message-1")
    assert sorted(store.identities(window, answers=True), key=repr) == sorted(
        [
            EventIdentity(generation_id(1), False, *answer),
            EventIdentity(generation_id(1), False, *answer),
            EventIdentity("turn:chat-1:message-1", True, *answer),
            EventIdentity(generation_id(2), False, None, None),
        ],
        key=repr,
    )
    bills = [identity.request_id for identity in store.identities(window, answers=False)]
    assert sorted(bills) == sorted([generation_id(1)] * 2 + [generation_id(2), turn().request_id])


def test_events_are_found_by_bill_and_by_message_each_once(store: EventStore) -> None:
    wanted = [
        generation(1, message_id="m-1"),
        pending(message_id="m-1"),
        generation(2, NOON + HOUR, message_id="m-2"),
        generation(3, NOON + HOUR, message_id="m-2", chat_id=None),
    ]
    write(store, *wanted, generation(4), generation(1, NOON + 7 * HOUR), generation(5, NOON))
    found = store.events_about(AROUND, {generation_id(1)}, {"m-1", "m-2"})
    assert by_id(list(found)) == by_id(wanted)
    assert list(store.events_about(AROUND)) == []
    assert by_id(list(store.events_about(AROUND, (), ["m-1"]))) == by_id(wanted[:2])
    assert list(store.events_about(NEVER, {generation_id(1)}, {"m-1"})) == []


def test_any_text_is_an_id_to_be_found_by(store: EventStore) -> None:
    texts = [*AWKWARD, "a/b", "/", "a.c", "a|b", "^x$", "(?i)A", "[a-z]*", "x{2}", "a+?", "\\d"]
    events = [turn(request_id=f"turn:{text}:x", message_id=text) for text in texts]
    write(store, *events, turn(request_id="turn:abc:x", message_id="abc"))
    for text, event in zip(texts, events, strict=True):
        assert list(store.events_about(AROUND, [event.request_id])) == [event]
        assert list(store.events_about(AROUND, (), [text])) == [event]
    every = store.events_about(AROUND, [event.request_id for event in events])
    assert by_id(list(every)) == by_id(events)


def test_as_many_long_ids_as_a_hostile_day_holds_are_looked_up(store: EventStore) -> None:
    ids = [f"turn:{'ą' * 140}:{number}" for number in range(13_000)]  # 11 MB in a form
    events = [turn(request_id=ids[0]), turn(request_id=ids[-1])]
    write(store, *events)
    assert by_id(list(store.events_about(AROUND, ids))) == by_id(events)


labels = st.sampled_from(["x", "y", "z"])
SOURCES = ["function", "pipeline", "webhook", "manual", "import:1"]


@st.composite
def observations(draw: st.DrawFn) -> UsageEvent:
    """Draw an observation of one of a few bills, within two hours of one of the midnights."""
    known = draw(st.booleans())
    at = MIDNIGHT + draw(st.integers(0, 1)) * DAY + draw(st.integers(-7200, 7200)) * HOUR / 3600
    number = draw(st.integers(0, 5))
    return settled(
        request_id=draw(st.sampled_from([f"gen-{number}", f"turn:{number}"])),
        grain=draw(st.sampled_from(["generation", "generation", "turn"])),
        occurred_at=at,
        external_user=draw(st.sampled_from([ALICE, BOB])),
        source=draw(st.sampled_from(SOURCES)),
        chat_id=draw(st.none() | labels),
        message_id=draw(st.none() | labels),
        total_tokens=draw(st.integers(0, 3)),
        cost_usd=Decimal(draw(st.integers(0, 2))).scaleb(-6) if known else None,
        cost_source=draw(st.sampled_from(["response", "webhook"])) if known else "none",
    )


@st.composite
def silences(draw: st.DrawFn) -> UnmeteredRow:
    """Draw an inlet whose outlet never came."""
    return unmetered(
        request_id=f"turn:{draw(st.integers(0, 5))}",
        occurred_at=MIDNIGHT + DAY / 2 + draw(st.integers(-46_800, 46_800)) * HOUR / 3600,
        chat_id=draw(st.none() | labels),
        message_id=draw(st.none() | labels),
    )


_examples = count()


def moved_by(
    rows: list[UsageEvent | UnmeteredRow], shift: timedelta
) -> list[UsageEvent | UnmeteredRow]:
    return [row.model_copy(update={"occurred_at": row.occurred_at + shift}) for row in rows]


@pytest.mark.parametrize("turns", ["bill", "observe"])
@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(observations(), max_size=9, unique_by=lambda event: event.event_id),
    st.lists(silences(), max_size=2, unique_by=lambda row: row.event_id),
    st.integers(-3, 27),
)
def test_sums_and_overlapping_events_are_the_day(
    store: EventStore,
    turns: Literal["bill", "observe"],
    drawn: list[UsageEvent],
    quiet: list[UnmeteredRow],
    move_hour: int,
) -> None:
    shift = next(_examples) * 4 * DAY
    number = f"{shift.days}-"
    rows = moved_by([*drawn, *quiet], shift)
    # Stores know an event by its id wherever it stands: every example has ids of its own.
    write(store, *(row.model_copy(update={"request_id": number + row.request_id}) for row in rows))
    move = Assignment(
        assignment_id=1,
        external_user=BOB,
        organization_id="acme",
        valid_from=MIDNIGHT + shift + move_hour * HOUR,
    )
    books = Directory({}, (), (move,), OrganizationDefaults(time_zone="UTC"))
    reader = DayReader(store, turns)
    for step in (-1, 0, 1):
        day = ZoneDay(date(2026, 11, 24) + shift + step * DAY, "UTC")
        quick, slow = reader.read(day, books), reader.read(day, books, event_by_event=True)
        assert quick.facts == slow.facts
        assert quick.events_read == slow.events_read
