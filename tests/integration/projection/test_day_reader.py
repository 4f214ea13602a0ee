"""Reading a day as sums and event by event: the same facts, to the last digit."""

from dataclasses import asdict
from datetime import date, timedelta
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.days import ZoneDay
from shared.core.event import UsageEvent
from shared.core.rows import Row
from shared.event_store.combined.coverage import StoreCoverage
from shared.event_store.combined.store import CombinedStore
from shared.event_store.sqlite.store import EmbeddedStore
from shared.projection.day_reader import MAX_SPANS, DayReader, day_window
from shared.projection.organization import Assignment, Directory
from tests.support.builders import ALICE, BOB, CHARLIE, turn, unmetered
from tests.support.ledger import (
    DAY,
    DEFAULTS,
    TOKYO,
    WARSAW,
    generation,
    organization,
    spooled,
    utc,
)

DAYS = [
    ZoneDay(date(2026, 11, 23) + timedelta(days=step), zone)
    for step in range(4)
    for zone in (WARSAW, TOKYO)
]


def moved(at: str, user: str = BOB, to: str | None = "edo") -> Assignment:
    return Assignment(assignment_id=1, external_user=user, organization_id=to, valid_from=utc(at))


def directory(*moves: Assignment) -> Directory:
    return Directory({"edo": organization("edo", time_zone=TOKYO)}, (), moves, DEFAULTS)


def later(start: str, **delta: int) -> str:
    return f"{utc(start) + timedelta(**delta):%Y-%m-%d %H:%M:%S}"


def observation(source: str, number: int, at: str, user: str, known: bool) -> UsageEvent:
    answer = {"chat_id": "chat", "message_id": f"message-{number % 3}", "external_user": user}
    if source == "pipeline":
        request_id = f"turn:chat:message-{number % 3}:{number}"
        return turn(request_id=request_id, occurred_at=utc(at), **answer)
    money = {
        "cost_usd": Decimal(number).scaleb(-6) if known else None,
        "cost_source": "response" if known else "none",
        "part": 1 if known and number > 6 else None,
    }
    return generation(number, at, source=source, **answer, **money)


moments = st.integers(0, 48 * 60).map(lambda minutes: later("2026-11-23 12:00", minutes=minutes))
people = st.sampled_from([ALICE, BOB, CHARLIE])
traffic = st.sampled_from(
    [["function"], ["pipeline"], ["function", "pipeline"], ["function", "webhook"]]
).flatmap(
    lambda sources: st.lists(
        st.builds(
            observation, st.sampled_from(sources), st.integers(1, 9), moments, people, st.booleans()
        ),
        max_size=10,
    )
)
silences = st.lists(
    st.builds(
        lambda at, number: unmetered(
            request_id=f"turn:chat:message-{number}",
            occurred_at=utc(at),
            chat_id="chat",
            message_id=f"message-{number}",
            task="chat",
        ),
        moments,
        st.integers(0, 3),
    ),
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(traffic, silences, st.randoms())
def test_both_ways_of_reading_agree_whatever_the_order_of_arrival(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[Row],
    quiet: list[Row],
    order: Random,
) -> None:
    store = EmbeddedStore(tmp_path_factory.mktemp("store") / "events.sqlite3")
    books = directory(moved("2026-11-24 10:07:30"))
    rows = [*events, *quiet]
    store.write(spooled(order.sample(rows, len(rows))))
    reader = DayReader(store)
    for day in DAYS:
        quick, slow = reader.read(day, books), reader.read(day, books, event_by_event=True)
        assert (quick.facts, quick.events_read) == (slow.facts, slow.events_read)
    store.close()


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedStore:
    return EmbeddedStore(tmp_path_factory.mktemp("store") / "events.sqlite3")


def test_a_move_between_zones_neither_loses_nor_doubles_an_hour(store: EmbeddedStore) -> None:
    # Two days of one event every ten minutes, and Bob goes from Warsaw to Tokyo and back.
    rows = [
        generation(number, later("2026-11-23 12:00", minutes=10 * number), external_user=BOB)
        for number in range(288)
    ]
    store.write(spooled(rows))
    books = directory(
        moved("2026-11-23 16:30:01"),
        moved("2026-11-24 09:59:59", to=None),
        moved("2026-11-25 03:00"),
    )
    readings = [DayReader(store).read(day, books) for day in DAYS]
    assert not any(reading.was_resolved for reading in readings)
    events = [row.amounts.events for reading in readings for row in reading.facts.rows]
    assert sum(events) == 288
    first_move = sum(
        row.amounts.events
        for reading in readings
        for row in reading.facts.rows
        if row.key.organization_id == "edo"
    )
    # 16:40 to 09:50 the next day, and 03:00 to 11:50 the day after.
    assert first_move == 104 + 54


def test_a_day_of_many_moves_is_read_event_by_event(store: EmbeddedStore) -> None:
    store.write(spooled([generation(1, "2026-11-24 12:00")]))
    moves = [moved(later("2026-11-24 08:00", seconds=step)) for step in range(MAX_SPANS)]
    assert DayReader(store).read(ZoneDay(DAY, WARSAW), directory(*moves)).was_resolved
    assert not DayReader(store).read(ZoneDay(DAY, WARSAW), directory(*moves[1:])).was_resolved


def test_a_day_counts_all_events_in_it_whoever_they_belong_to(store: EmbeddedStore) -> None:
    inside = [
        generation(1, "2026-11-24 12:00"),
        generation(2, "2026-11-24 12:00", external_user=BOB),
    ]
    store.write(spooled([*inside, generation(3, "2026-11-24 23:30")]))
    reading = DayReader(store).read(ZoneDay(DAY, TOKYO), directory(moved("2026-11-24 00:00")))
    assert reading.events_read == 2
    assert [row.key.external_user for row in reading.facts.rows] == [BOB]
    assert asdict(reading.facts.rows[0].amounts)["events"] == 1


def test_a_bill_seen_on_both_sides_of_midnight_is_booked_on_one_day(store: EmbeddedStore) -> None:
    before = generation(1, "2026-11-24 22:59:50")
    after = before.model_copy(
        update={
            "source": "webhook",
            "cost_source": "webhook",
            "occurred_at": utc("2026-11-24 23:00:10"),
        }
    )
    store.write(spooled([before, after]))
    days = [ZoneDay(DAY + timedelta(days=step), WARSAW) for step in (0, 1)]
    readings = [DayReader(store).read(day, directory()) for day in days]
    assert [len(reading.facts.rows) for reading in readings] == [1, 0]
    assert all(reading.was_resolved for reading in readings)


def test_the_window_of_a_day_is_its_span_of_utc() -> None:
    window = day_window(ZoneDay(DAY, WARSAW))
    assert (window.start, window.end) == (utc("2026-11-23 23:00"), utc("2026-11-24 23:00"))


@pytest.mark.parametrize("event_by_event", [False, True])
@pytest.mark.parametrize(
    ("at", "silent"),
    [("11:59:50", 1), ("11:59:56", 0), ("12:00", 0), ("12:59:59", 0), ("13:00", 1)],
)
def test_a_silent_inlet_is_explained_by_its_answer_within_the_hour(
    store: EmbeddedStore, event_by_event: bool, at: str, silent: int
) -> None:
    answer = {"chat_id": "chat-1", "message_id": "message-1"}
    inlet = unmetered(request_id="turn:chat-1:message-1", task="chat", **answer)
    store.write(spooled([inlet, generation(1, f"2026-11-24 {at}", **answer)]))
    reading = DayReader(store).read(
        ZoneDay(inlet.occurred_at.date(), WARSAW), directory(), event_by_event=event_by_event
    )
    assert len(reading.facts.unmetered) == silent


def test_halves_of_an_identity_join_an_answer_that_neither_names(store: EmbeddedStore) -> None:
    at = "2026-11-24 12:00"
    answer = turn(occurred_at=utc(at), chat_id="chat", message_id="message")
    halves = [
        generation(1, at, chat_id="chat", message_id=None),
        generation(1, at, chat_id=None, message_id="message", source="webhook"),
    ]
    store.write(spooled([answer, *halves]))
    quick, slow = (
        DayReader(store).read(ZoneDay(DAY, WARSAW), directory(), event_by_event=each)
        for each in (False, True)
    )
    assert quick == slow
    assert [row.amounts.events for row in quick.facts.rows] == [1]


@settings(max_examples=30, deadline=None)
@given(traffic, st.lists(st.sampled_from([1, 2, 3]), min_size=10, max_size=10))
def test_both_ways_agree_whichever_stores_hold_the_events(
    tmp_path_factory: pytest.TempPathFactory, events: list[UsageEvent], where: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    first, second = (EmbeddedStore(folder / f"{name}.sqlite3") for name in ("first", "second"))
    second.name = "other"
    coverage = StoreCoverage(folder / "first.sqlite3")
    for store, bit in ((first, 1), (second, 2)):
        held = [event for event, bits in zip(events, where, strict=False) if bits & bit]
        # The other store heard of it by a clock of its own.
        late = timedelta(minutes=20) if bit == 2 else timedelta(0)
        store.write(
            spooled(
                event.model_copy(update={"occurred_at": event.occurred_at + late}) for event in held
            )
        )
    reader = DayReader(CombinedStore([first, second], coverage))
    for day in DAYS:
        quick, slow = (reader.read(day, directory(), event_by_event=each) for each in (False, True))
        assert (quick.facts, quick.events_read) == (slow.facts, slow.events_read)
    for part in (first, second, coverage):
        part.close()
