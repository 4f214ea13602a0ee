"""OpenRouter's Broadcast: the root span alone, every form of number, unknown stays unknown."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.capture.broadcast import BroadcastReading, broadcast_events
from shared.capture.webhook import WebhookOwner
from shared.core.event import UsageEvent
from shared.errors import InvalidEvent
from tests.support.builders import NOON, NOON_SECONDS, generation_id

OWNER = WebhookOwner(organizations={}, default="house")
START = f"{NOON_SECONDS}000000000"


def value(plain: object) -> dict[str, object]:
    if isinstance(plain, bool):
        return {"boolValue": plain}
    if isinstance(plain, int):
        return {"intValue": plain}
    return {"doubleValue": plain} if isinstance(plain, float) else {"stringValue": plain}


def span(**changed: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "span.type": "generation",
        "gen_ai.response.id": generation_id(),
        "gen_ai.request.model": "anthropic/claude-haiku-4.5",
        "gen_ai.response.model": "anthropic/claude-haiku-4.5",
        "gen_ai.usage.input_tokens": 2489,
        "gen_ai.usage.output_tokens": 569,
        "gen_ai.usage.total_cost": 0.005334,
        "user.id": "alice-id",
        "trace.metadata.openrouter.provider_name": "Amazon Bedrock",
        "trace.metadata.owui_chat_id": "chat-1",
        "trace.metadata.owui_message_id": "message-1",
    } | changed.pop("attributes", {})
    return {
        "name": "LLM Generation",
        "startTimeUnixNano": START,
        "endTimeUnixNano": f"{NOON_SECONDS + 3}723000000",
        "status": {"code": 1},
        "attributes": [
            {"key": key, "value": value(plain)}
            for key, plain in attributes.items()
            if plain is not None
        ],
    } | changed


def delivery(*spans: object) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [each]}]} for each in spans]}


def read(*spans: object) -> BroadcastReading:
    return broadcast_events(delivery(*spans), OWNER, NOON)


def one(**changed: Any) -> UsageEvent:
    [event] = read(span(**changed)).events
    return event


def test_a_root_span_becomes_an_event_with_all_it_knows() -> None:
    event = one()
    assert event.request_id == generation_id()
    assert event.cost_usd == Decimal("0.005334")
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (2489, 569, 3058)
    assert (event.external_user, event.chat_id, event.message_id) == (
        "alice-id",
        "chat-1",
        "message-1",
    )
    assert (event.provider, event.latency_ms) == ("Amazon Bedrock", 3723)
    assert (event.source, event.cost_source) == ("webhook", "webhook")


def test_attempts_and_inner_spans_do_not_count() -> None:
    attempt = {"gen_ai.response.id": generation_id() + ":attempt-0"}
    inner = {"span.type": "span"}
    assert len(read(span(), span(attributes=attempt), span(attributes=inner)).events) == 1


@pytest.mark.parametrize(
    "tokens", [{"intValue": 2489}, {"intValue": "2489"}, {"doubleValue": 2489.0}]
)
def test_a_number_is_read_in_every_form(tokens: dict[str, object]) -> None:
    given_span = span(attributes={"gen_ai.usage.input_tokens": None})
    given_span["attributes"].append({"key": "gen_ai.usage.input_tokens", "value": tokens})
    [event] = read(given_span).events
    assert event.input_tokens == 2489


def test_a_cost_of_zero_comes_as_an_integer_and_is_known() -> None:
    event = one(attributes={"gen_ai.usage.total_cost": 0})
    assert event.cost_usd == 0


def test_the_charge_goes_before_the_list_price() -> None:
    charge = {"trace.metadata.openrouter_generation.usage": 0.005}
    assert one(attributes=charge).cost_usd == Decimal("0.005")


def test_a_cancelled_generation_is_pending() -> None:
    none = {"gen_ai.usage.total_cost": None, "gen_ai.usage.input_tokens": None}
    event = one(attributes=none, status={"code": 2})
    assert (event.cost_usd, event.cost_source) == (None, "none")


def test_the_list_price_of_a_failed_generation_is_no_charge() -> None:
    assert one(status={"code": 2}).cost_usd is None


def test_byok_without_its_charge_is_pending_because_the_list_price_is_not_the_fee() -> None:
    responses = {"trace.metadata.provider_responses": '[{"is_byok": true}]'}
    event = one(attributes=responses)
    assert (event.is_byok, event.cost_usd) == (True, None)


def test_byok_keeps_fee_and_upstream_apart() -> None:
    reported = {
        "trace.metadata.openrouter_generation.usage": 0.0002667,
        "trace.metadata.openrouter_generation.is_byok": True,
        "trace.metadata.openrouter_generation.byok_usage_inference": 0.005334,
    }
    event = one(attributes=reported)
    assert (event.cost_usd, event.upstream_cost_usd) == (Decimal("0.0002667"), Decimal("0.005334"))


def test_a_generation_without_a_model_is_refused_and_the_others_are_booked() -> None:
    nameless = {"gen_ai.request.model": None, "gen_ai.response.model": None}
    reading = read(span(attributes=nameless), span())
    assert (len(reading.events), len(reading.refused)) == (1, 1)


def test_the_test_of_a_connection_books_nothing() -> None:
    assert read({"name": "openrouter-connection-test"}) == BroadcastReading([], [])


def test_a_body_with_absurdly_many_spans_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="too_many_spans"):
        read(*([{}] * 1001))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100)
@given(JSON, st.sampled_from(["resourceSpans", "attributes", "value", "status", "usage"]))
def test_no_json_can_make_reading_fail(anything: Any, place: str) -> None:
    cost = {"key": "gen_ai.usage.total_cost", "value": {"doubleValue": anything}}
    found = {
        "resourceSpans": {"resourceSpans": anything},
        "attributes": delivery(span() | {"attributes": anything}),
        "value": delivery(span() | {"attributes": [{"key": "user.id", "value": anything}]}),
        "status": delivery(span(status=anything, startTimeUnixNano=anything)),
        "usage": delivery(span() | {"attributes": [*span()["attributes"], cost]}),
    }[place]
    broadcast_events(found, OWNER, NOON)
