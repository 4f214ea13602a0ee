"""Every event comes back from every store as it was written."""

from decimal import Decimal
from itertools import count
from json import dumps

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.core.event import COST_SOURCES, UsageEvent
from shared.core.money import from_pico
from shared.event_store.port import EventStore, Window
from shared.spool.port import SpooledRow
from tests.support.builders import (
    BOB,
    NOON,
    NOON_SECONDS,
    generation_id,
    settled,
    turn,
)
from tests.support.spools import spooled
from tests.support.stores import AROUND, AWKWARD, HOUR, MILLISECOND, by_id, generation, read, write


@pytest.mark.parametrize("name", ["client_org_id", "external_user", "model", "task", "source"])
def test_any_text_is_a_label(store: EventStore, name: str) -> None:
    events = [generation(number, NOON, **{name: text}) for number, text in enumerate(AWKWARD)]
    write(store, *events)
    assert sorted(getattr(group, name) for group in store.usage(AROUND)) == sorted(AWKWARD)
    assert read(store) == by_id(events)


def test_any_text_is_a_detail_of_an_event(store: EventStore) -> None:
    events = [
        turn(
            request_id=f"turn:{text}:{number}",
            requested_model=text,
            provider=text,
            api_key_hash=text,
            chat_id=text,
            message_id=text,
            finish_reason=text,
            service_tier=text,
            latency_ms=number,
            usage_extra=text + "\nand a second line",
        )
        for number, text in enumerate(AWKWARD)
    ]
    write(store, *events)
    assert read(store) == by_id(events)


def test_a_row_of_an_older_version_is_read_with_defaults(store: EventStore) -> None:
    old = {
        "request_id": f"gen-{NOON_SECONDS}-old",
        "grain": "generation",
        "occurred_at": "2026-11-24T12:00:00Z",
        "external_user": BOB,
        "model": "m",
        "source": "function",
        "cost_source": "response",
        "cost_usd": "0.5",
        "a_field_of_another_version": 1,
    }
    [row] = spooled([settled(request_id=f"gen-{NOON_SECONDS}-old")])
    store.write([SpooledRow(1, "usage", row.event_id, dumps(old), row.point_time_ns, 0)])
    [event] = read(store)
    assert (event.external_user, event.task, event.cost_usd) == (BOB, "chat", Decimal("0.5"))


LABELS = st.text(st.characters(codec="utf-8"), max_size=40)
TOKENS = st.integers(0, 2**53)
PICO = st.one_of(st.integers(0, 10**16), st.just(2**63 - 1), st.integers(0, 10))
AMOUNT = PICO.map(from_pico)


@st.composite
def events(draw: st.DrawFn) -> UsageEvent:
    """Draw any event at all of the hour that begins at noon."""
    milliseconds = draw(st.integers(0, 3_599_999))
    at = NOON + milliseconds * MILLISECOND
    cost_source = draw(st.sampled_from(COST_SOURCES))
    is_byok = draw(st.booleans())
    has_cost = cost_source not in ("none", "estimate")
    number = draw(st.integers(0, 10**6))
    ids = [f"turn:{number}", generation_id(number, int(at.timestamp())), f"gen-{number}"]
    ids.append(generation_id(number, int(at.timestamp()) - 5))
    return settled(
        request_id=draw(st.sampled_from(ids)),
        grain=draw(st.sampled_from(["generation", "turn"])),
        occurred_at=at,
        external_user=draw(LABELS) + "u",
        cost_source=cost_source,
        cost_usd=draw(AMOUNT) if has_cost else None,
        estimated_cost_usd=draw(AMOUNT) if cost_source == "estimate" else None,
        is_byok=is_byok,
        upstream_cost_usd=draw(st.none() | AMOUNT) if is_byok else None,
        latency_ms=draw(st.none() | st.integers(0, 2**40)),
        part=draw(st.sampled_from([None, 1])) if has_cost else None,
        usage_extra=draw(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
        ),
        **{
            name: draw(LABELS) for name in ("client_org_id", "requested_model", "model", "provider")
        },
        **{name: draw(LABELS) for name in ("task", "source", "api_key_hash")},
        **{name: draw(st.none() | LABELS) for name in ("chat_id", "message_id", "finish_reason")},
        **{f"{name}_tokens": draw(TOKENS) for name in ("input", "output", "total", "cached")},
        cache_write_tokens=draw(TOKENS),
        reasoning_tokens=draw(TOKENS),
    )


_hours = count()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(events(), max_size=8, unique_by=lambda event: event.event_id))
def test_every_event_comes_back_equal(store: EventStore, drawn: list[UsageEvent]) -> None:
    hour = next(_hours)
    shift = hour * HOUR
    # The hour is a part of each identity: the store still holds what was drawn before.
    shifted = [
        event.model_copy(
            update={"occurred_at": event.occurred_at + shift, "model": f"{event.model}{hour}"}
        )
        for event in drawn
    ]
    write(store, *shifted)
    window = Window(NOON + shift, NOON + shift + HOUR)
    assert read(store, window) == by_id(shifted)
    totals = sum(group.amounts.raw_pico_usd for group in store.usage(window))
    assert from_pico(totals) == sum((event.cost_usd or 0 for event in shifted), Decimal(0))
