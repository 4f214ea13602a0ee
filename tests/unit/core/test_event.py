"""The usage event: validated, frozen, versioned, and the same after a round trip through JSON."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.core.event import UsageEvent, event_from_json, new_event, quarantine_reason
from shared.errors import InvalidEvent
from tests.support.builders import NOON, generation_id, pending, settled, turn

labels = st.text(max_size=150)
tokens = st.integers(0, 2**53)


@st.composite
def events(draw: st.DrawFn) -> UsageEvent:
    byok = draw(st.booleans())
    cost = draw(st.none() | st.decimals(0, 9_000_000, places=12))
    return new_event(
        request_id=generation_id(draw(st.integers(0, 10**9))),
        grain=draw(st.sampled_from(["generation", "turn"])),
        occurred_at=draw(st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1))),  # noqa: DTZ001
        external_user="u" + draw(labels),
        model=draw(labels),
        task=draw(labels),
        source=draw(st.sampled_from(["function", "pipeline", "import:x"])),
        input_tokens=draw(tokens),
        total_tokens=draw(tokens),
        cost_usd=cost,
        cost_source="none" if cost is None else "response",
        is_byok=byok,
        upstream_cost_usd=draw(st.decimals(0, 100, places=12)) if byok else None,
        chat_id=draw(st.none() | labels),
    )


@given(events())
def test_an_event_is_the_same_after_json(event: UsageEvent) -> None:
    again = event_from_json(event.to_json())
    assert again == event
    assert again.event_id == event.event_id
    assert again.to_json() == event.to_json()


def test_an_event_is_frozen_and_says_its_version() -> None:
    event = settled()
    with pytest.raises(ValidationError):
        event.cost_usd = Decimal(0)  # type: ignore[misc]
    assert json.loads(event.to_json())["schema_version"] == 1


def test_a_later_version_with_more_fields_is_still_read() -> None:
    later = json.loads(settled().to_json()) | {"schema_version": 7, "mood": "good"}
    assert event_from_json(json.dumps(later)).cost_usd == Decimal("0.00002025")


def test_a_missing_optional_field_takes_its_default() -> None:
    shorter = json.loads(settled().to_json())
    del shorter["reasoning_tokens"], shorter["task"]
    assert event_from_json(json.dumps(shorter)).task == "chat"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request_id", ""),
        ("request_id", "gen-" + "x" * 160),
        ("request_id", "gen-1\n2"),
        ("request_id", None),
        ("external_user", " "),
        ("external_user", None),
        ("input_tokens", -1),
        ("input_tokens", 2**54),
        ("occurred_at", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("cost_source", "guess"),
        ("usage_extra", "x" * 1025),
    ],
)
def test_a_wrong_field_is_named_with_its_value(field: str, value: Any) -> None:
    with pytest.raises(InvalidEvent) as caught:
        settled(**{field: value})
    assert caught.value.field == field
    if isinstance(value, str) and value:
        assert value[:20].strip() in str(caught.value) or repr(value)[1:10] in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"cost_usd": None},
        {"cost_source": "none"},
        {"cost_source": "estimate", "cost_usd": None},
        {"estimated_cost_usd": 1},
        {"upstream_cost_usd": 1},
        {"part": 1, "cost_source": "none", "cost_usd": None},
        {"part": 2},
    ],
)
def test_money_that_contradicts_itself_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        settled(**fields)


def test_a_cost_of_zero_is_not_pending() -> None:
    assert settled(cost_usd=0).is_settled
    assert not pending().is_settled


def test_a_part_of_a_request_is_no_request_and_says_so_only_then() -> None:
    assert (settled().requests, settled(part=1).requests) == (1, 0)
    assert "part" not in json.loads(settled().to_json())
    assert event_from_json(settled(part=1).to_json()).part == 1


def test_labels_are_fit_for_every_store() -> None:
    event = settled(model="  a\nb\\", task="", external_user="ü" * 100)
    assert (event.model, event.task) == ("a b", "chat")
    assert event.external_user == "ü" * 64


def test_times_are_utc_milliseconds() -> None:
    warsaw = timezone(timedelta(hours=1))
    event = settled(occurred_at=datetime(2026, 11, 24, 13, 0, 0, 123_999, tzinfo=warsaw))
    assert event.occurred_at == NOON + timedelta(milliseconds=123)
    assert event.occurred_at.tzinfo is UTC


def test_the_same_observation_has_the_same_id_and_another_price_another() -> None:
    assert settled().event_id == settled(chat_id="elsewhere").event_id
    assert settled().event_id != settled(cost_usd=2.026e-05).event_id
    assert settled().event_id != settled(source="pipeline").event_id
    assert settled().event_id != pending().event_id
    assert len(settled().event_id) == 32


def test_the_identity_of_an_observation_never_changes() -> None:
    """A stored event must keep its id across versions: this literal is a promise to old stores."""
    assert settled().event_id == "634414c5897c1e095eca03e5c3e2d6f1"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (settled(), None),
        (settled(cost_usd=10_000), None),
        (settled(cost_usd="10000.000000000001"), "cost_above_limit"),
        (settled(occurred_at=NOON + timedelta(minutes=60)), None),
        (settled(occurred_at=NOON + timedelta(minutes=61)), "in_the_future"),
        (turn(occurred_at=NOON + timedelta(days=2), source="import:old"), None),
    ],
)
def test_only_what_a_person_should_see_first_is_quarantined(
    event: UsageEvent, reason: str | None
) -> None:
    assert quarantine_reason(event, NOON, Decimal(10_000)) == reason
