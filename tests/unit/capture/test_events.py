"""From what a hook sees to the event it books."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.capture.events import CapturedAnswer, generation_event, turn_event
from shared.capture.inlet import Inlet, is_fresh, read_inlet, unmetered_row
from shared.capture.openwebui import ModelRecord, read_model_record
from shared.core.event import UsageEvent
from shared.errors import InvalidEvent
from tests.support.builders import ALICE, NOON, NOON_SECONDS, generation_id

RECORD: dict[str, Any] = {
    "id": "openai/gpt-5-mini",
    "canonical_slug": "openai/gpt-5-mini",
    "pricing": {"prompt": "0.00000025", "completion": "0.000002"},
    "top_provider": {},
}
METADATA = {
    "user_id": ALICE,
    "chat_id": "chat-1",
    "message_id": "message-1",
    "model_id": "law-preset",
}
CHUNK = {
    "id": generation_id(),
    "model": "openai/gpt-5-mini",
    "provider": "OpenAI",
    "service_tier": "default",
    "choices": [],
}
USAGE = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18, "cost": 2.025e-05}


def unknown(_model_id: str) -> ModelRecord | None:
    return None


def inlet_of(metadata: dict[str, Any], requested: str = "openai/gpt-5-mini") -> Inlet:
    return read_inlet(METADATA | metadata, requested, ALICE, NOON, unknown, frozenset())


def booked(answer: dict[str, Any], inlet: Inlet, **body: Any) -> UsageEvent:
    message = {"id": "message-1", "role": "assistant"} | answer
    whole = {"id": "message-1", "chat_id": "chat-1", "model": "openai/gpt-5-mini"} | body
    event, _ = turn_event(
        CapturedAnswer(source="pipeline", user=ALICE, body=whole, message=message),
        inlet,
        "acme",
        NOON,
    )
    return event


def test_a_generation_with_usage_is_settled_at_the_second_of_its_id() -> None:
    event, problem = generation_event(CHUNK | {"usage": USAGE}, METADATA, "acme", NOON, "stop")
    assert problem is None
    assert event.cost_usd == Decimal("0.00002025")
    assert event.occurred_at == datetime.fromtimestamp(NOON_SECONDS, UTC)
    assert (event.grain, event.source, event.cost_source) == ("generation", "function", "response")
    assert (event.model, event.requested_model) == ("openai/gpt-5-mini", "law-preset")
    assert (event.client_org_id, event.external_user) == ("acme", ALICE)
    assert (event.finish_reason, event.service_tier) == ("stop", "default")


def test_a_generation_without_usage_is_pending() -> None:
    event, problem = generation_event(CHUNK, METADATA, "acme", NOON)
    assert problem is None
    assert (event.cost_usd, event.cost_source, event.total_tokens) == (None, "none", 0)


def test_an_old_id_without_seconds_takes_the_clock() -> None:
    event, _ = generation_event(CHUNK | {"id": "gen-abc"}, METADATA, "acme", NOON)
    assert event.occurred_at == NOON


@pytest.mark.parametrize("cost", [None, -1, "free", float("nan")])
def test_an_unusable_cost_leaves_the_generation_pending_and_is_named(cost: object) -> None:
    event, problem = generation_event(
        CHUNK | {"usage": USAGE | {"cost": cost}}, METADATA, "acme", NOON
    )
    assert (event.cost_usd, event.cost_source, event.total_tokens) == (None, "none", 18)
    assert problem is not None


def test_a_free_answer_is_settled_at_zero_and_not_pending() -> None:
    event, problem = generation_event(CHUNK | {"usage": USAGE | {"cost": 0.0}}, METADATA, "a", NOON)
    assert (event.cost_usd, event.cost_source, problem) == (Decimal(0), "response", None)


def test_a_generation_without_a_user_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="external_user"):
        generation_event(CHUNK, {"chat_id": "chat-1"}, "acme", NOON)


def test_an_answer_takes_the_sums_and_the_time_of_its_message() -> None:
    merged = {
        "prompt_tokens": 36,
        "completion_tokens": 9,
        "input_tokens": 72,
        "output_tokens": 33,
        "total_tokens": 105,
        "cost": 8.400000000000001e-05,
    }
    event = booked({"usage": merged, "timestamp": NOON_SECONDS - 60}, inlet_of({}))
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (72, 33, 105)
    assert event.cost_usd == Decimal("0.000084")
    assert (event.request_id, event.cost_source) == ("turn:chat-1:message-1", "outlet")
    assert event.occurred_at == NOON - timedelta(seconds=60)


def test_an_api_answer_has_no_chat_and_takes_the_clock() -> None:
    event = booked({"usage": USAGE}, inlet_of({}), id="msg_0123", chat_id="")
    assert (event.request_id, event.occurred_at) == ("turn::msg_0123", NOON)
    assert event.chat_id is None


def test_a_continued_answer_is_estimated_from_what_is_not_merged() -> None:
    inlet = inlet_of({"assistant_message_id": "message-1", "model": RECORD})
    merged = {
        "prompt_tokens": 53,
        "completion_tokens": 9,
        "input_tokens": 216,
        "output_tokens": 45,
        "total_tokens": 261,
        "cost": 0.000144,
    }
    event = booked({"usage": merged, "timestamp": NOON_SECONDS - 600}, inlet)
    assert event.request_id == "turn:chat-1:message-1:261"
    assert (event.cost_usd, event.estimated_cost_usd) == (None, Decimal("0.00003125"))
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (53, 9, 62)
    assert event.occurred_at == NOON


TWICE = USAGE | {"input_tokens": 18, "output_tokens": 18, "total_tokens": 36, "cost": 4.05e-05}
TEXT = [{"type": "reasoning"}, {"type": "message"}]


def test_usage_that_was_sent_twice_is_estimated_from_what_is_not_merged() -> None:
    event = booked({"usage": TWICE, "output": TEXT}, inlet_of({"model": RECORD}))
    assert event.request_id == "turn:chat-1:message-1"
    assert (event.cost_usd, event.estimated_cost_usd) == (None, Decimal("0.00002025"))
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (9, 9, 18)


@pytest.mark.parametrize(
    "output",
    [None, [], "text", [{"type": "function_call"}, {"type": "message"}], ["(7 items)"]],
)
def test_sums_are_trusted_where_a_tool_may_have_run(output: object) -> None:
    event = booked({"usage": TWICE, "output": output}, inlet_of({"model": RECORD}))
    assert (event.cost_usd, event.cost_source) == (Decimal("0.0000405"), "outlet")


# A tool loop of three: 36 and 12 tokens, 40 and 12, 45 and 9; one of them with a cost of null.
LOOP = {
    "prompt_tokens": 45,
    "completion_tokens": 9,
    "input_tokens": 121,
    "output_tokens": 33,
    "total_tokens": 154,
    "cost": 0.00009625,
}
STEPS = [{"type": "function_call"}, {"type": "message"}]


@pytest.mark.parametrize("cost", [0.000067, 0.00002925], ids=["the last step", "all others"])
def test_a_tool_loop_that_lacks_the_cost_of_a_step_is_estimated(cost: float) -> None:
    usage = LOOP | {"cost": cost}
    event = booked({"usage": usage, "output": STEPS}, inlet_of({"model": RECORD}))
    assert (event.cost_usd, event.cost_source) == (None, "estimate")
    assert event.estimated_cost_usd == Decimal("0.00009625")
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (121, 33, 154)


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        ({}, RECORD),
        ({"cost": 0.0000952875}, RECORD),  # a discount of 1 %
        ({"cost": 0.0000048125}, RECORD),  # the fee of a key of one's own
        ({"cost": 0.000067, "prompt_tokens_details": {"cached_tokens": 9}}, RECORD),
        ({"cost": 0.000067}, {"id": "openai/gpt-5-mini"}),
        ({"cost": 0.0}, RECORD | {"pricing": {"prompt": "0", "completion": "0"}}),
        ({"cost": 0.0}, RECORD | {"pricing": {"prompt": "-1", "completion": "-1"}}),
    ],
)
def test_a_tool_loop_whose_sum_tells_nothing_is_as_outlet_says(
    fields: dict[str, Any], record: dict[str, Any]
) -> None:
    event = booked({"usage": LOOP | fields, "output": STEPS}, inlet_of({"model": record}))
    assert event.cost_source == "outlet"


@pytest.mark.parametrize(
    ("upstream", "source"), [(0.0000135, "outlet"), (0.000027, "estimate"), (None, "estimate")]
)
def test_two_equal_steps_at_half_the_price_are_not_taken_for_one_step(
    upstream: float | None, source: str
) -> None:
    """What the provider asked for the last of them tells the two apart."""
    two_equal: dict[str, Any] = {"prompt_tokens": 36, "completion_tokens": 9, "input_tokens": 72}
    two_equal |= {"output_tokens": 18, "total_tokens": 90, "cost": 0.000027}
    usage = two_equal | {"cost_details": {"upstream_inference_cost": upstream}}
    event = booked({"usage": usage, "output": STEPS}, inlet_of({"model": RECORD}))
    assert event.cost_source == source


def test_an_answer_that_was_not_merged_is_as_outlet_says() -> None:
    event = booked({"usage": USAGE, "output": TEXT}, inlet_of({"model": RECORD}))
    assert (event.cost_usd, event.cost_source) == (Decimal("0.00002025"), "outlet")


def test_a_continued_answer_without_prices_is_pending() -> None:
    event = booked({"usage": USAGE}, inlet_of({"assistant_message_id": "message-1"}))
    assert (event.cost_usd, event.estimated_cost_usd, event.cost_source) == (None, None, "none")


@pytest.mark.parametrize(
    ("metadata", "requested", "model", "billing"),
    [
        ({"model": RECORD}, "openai/gpt-5-mini", "openai/gpt-5-mini", "openrouter"),
        ({"model": RECORD | {"id": "or.openai/gpt-5-mini"}}, "or.openai/gpt-5-mini",
         "openai/gpt-5-mini", "openrouter"),
        ({"model": {"id": "law", "info": {"base_model_id": "openai/o3"}}}, "law",
         "openai/o3", "likely"),
        ({"model": {"id": "law", "info": {"base_model_id": "llama"}}}, "law",
         "unresolved:law", "foreign"),
        ({"model": {"id": "arena", "owned_by": "arena"}, "selected_model_id": "openai/o3"},
         "openai/o3", "openai/o3", "likely"),
        ({"model": {"id": "arena", "owned_by": "arena"}}, "arena", "unresolved:arena", "foreign"),
        ({"model": {"id": "llama"}}, "llama", "llama", "foreign"),
        ({}, "law", "unresolved:law", "foreign"),
        ({"model": {"id": "gpt", "tags": [{"name": "proxy"}]}}, "gpt", "gpt", "named"),
    ],
)  # fmt: skip
def test_presets_and_arenas_are_resolved_and_only_openrouter_is_metered(
    metadata: dict[str, Any], requested: str, model: str, billing: str
) -> None:
    inlet = read_inlet(metadata, requested, ALICE, NOON, unknown, frozenset({"proxy"}))
    assert (inlet.model, inlet.billing, inlet.requested_model) == (model, billing, requested)


def test_the_record_of_a_base_model_is_found_in_memory() -> None:
    metadata = {"model": {"id": "law", "info": {"base_model_id": RECORD["id"]}}}
    known = {RECORD["id"]: read_model_record(RECORD)}
    inlet = read_inlet(metadata, "law", ALICE, NOON, known.get, frozenset())
    assert (inlet.model, inlet.billing) == ("openai/gpt-5-mini", "openrouter")
    assert inlet.prompt_price == Decimal("0.00000025")


def test_a_background_task_of_an_arena_chat_keeps_its_own_model() -> None:
    metadata = {"task": "title_generation", "selected_model_id": "openai/o3"}
    inlet = read_inlet(metadata, "qwen/qwen3-8b:free", ALICE, NOON, unknown, frozenset())
    assert (inlet.model, inlet.task) == ("qwen/qwen3-8b:free", "title_generation")


def test_a_silent_inlet_becomes_an_unmetered_row_of_its_turn() -> None:
    row = unmetered_row(inlet_of({}), "acme")
    assert (row.request_id, row.task, row.occurred_at) == ("turn:chat-1:message-1", "chat", NOON)
    assert (row.external_user, row.client_org_id, row.model) == (ALICE, "acme", "openai/gpt-5-mini")


def test_ids_are_fresh_from_the_second_of_the_inlet_on() -> None:
    inlet = inlet_of({})
    late = read_inlet({}, "x", ALICE, NOON.replace(microsecond=900_000), unknown, frozenset())
    assert is_fresh([generation_id(seconds=NOON_SECONDS)], inlet)
    assert is_fresh([generation_id(seconds=NOON_SECONDS)], late)
    assert not is_fresh([generation_id(seconds=NOON_SECONDS - 1)], inlet)
    assert is_fresh(["gen-of-the-old-form"], inlet)
    assert not is_fresh([], inlet)
