"""Every hook under random bodies: it never raises, and the chat stays as it was."""

import copy
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.host.plugin import events, load_as_function, load_as_pipeline, running
from tests.support.builders import ALICE

MODEL = {
    "id": "openai/gpt-5-mini",
    "canonical_slug": "openai/gpt-5-mini",
    "pricing": {"prompt": "0.00000025", "completion": "0.000002"},
    "top_provider": {},
}
# Words that the hooks look for, so that random bodies come further than their first check.
KNOWN_KEYS = """
id model provider choices delta content finish_reason usage cost is_byok cost_details error
prompt_tokens completion_tokens total_tokens input_tokens output_tokens usage_ledger metadata
messages role assistant timestamp chat_id message_id user_id task pricing canonical_slug info
top_provider base_model_id selected_model_id assistant_message_id tags name owned_by booked total
finish prompt_tokens_details upstream_inference_cost service_tier user trace session_id
"""
KEYS = st.sampled_from(KNOWN_KEYS.split())
WORDS = st.sampled_from(
    ["", "chat-1", "message-1", "openai/gpt-5-mini", "assistant", "gen-1795000000-abc", "0.1", "-1"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | WORDS
    | st.sampled_from([1e400, -1e-12, 10**400, 7.4e-7, "NaN", "\x00", "\ud800", "x" * 70_000])
)
VALUES = st.recursive(
    SCALARS | st.just(MODEL),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=25,
)
CHUNKS = st.fixed_dictionaries(
    {"id": st.just("gen-1795000000-abc") | VALUES},
    optional={"usage": VALUES, "choices": VALUES, "provider": VALUES, "model": VALUES},
)
MESSAGES = st.fixed_dictionaries(
    {"id": st.just("message-1"), "role": st.just("assistant")},
    optional={"usage": VALUES, "timestamp": VALUES, "finish_reason": VALUES},
)
OUTLETS = st.fixed_dictionaries(
    {"id": st.just("message-1") | VALUES, "messages": st.lists(MESSAGES, max_size=2) | VALUES},
    optional={"chat_id": VALUES, "model": VALUES},
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.just(ALICE) | VALUES,
        "chat_id": VALUES,
        "message_id": VALUES,
        "model": st.just(MODEL) | VALUES,
        "task": VALUES,
        "assistant_message_id": VALUES,
        "usage_ledger": VALUES,
    },
)
INLETS = st.fixed_dictionaries(
    {"metadata": METADATA | VALUES}, optional={"model": VALUES, "user": VALUES, "messages": VALUES}
)
USERS = st.none() | st.just({"id": ALICE, "name": "Alice", "email": "alice@example.org"}) | VALUES
FUZZ = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = str(tmp_path_factory.mktemp("function"))
    with running(load_as_function(), "Filter", spool_dir=folder) as plugin:
        yield plugin


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = str(tmp_path_factory.mktemp("pipeline"))
    valves = {"add_session_id": True, "add_trace": True}
    with running(load_as_pipeline(), "Pipeline", spool_dir=folder, **valves) as plugin:
        yield plugin


def failures(plugin: Any) -> dict[str, int]:
    """Return what only the broad except of a hook caught: each of them would be a bug."""
    totals = plugin.status().counters
    return {reason: total for reason, total in totals.items() if reason.startswith("failed")}


def same(left: object, right: object) -> bool:
    """Compare JSON, where NaN is itself."""
    return repr(left) == repr(right)


@FUZZ
@given(chunk=CHUNKS | VALUES, metadata=METADATA | VALUES)
async def test_stream_never_raises_and_changes_nothing_but_its_mark(
    function: Any, chunk: Any, metadata: Any
) -> None:
    before = copy.deepcopy(chunk)
    after = await function.stream(chunk, __metadata__=metadata)
    assert after is chunk
    if isinstance(after, dict) and isinstance(after.get("usage"), dict):
        after["usage"].pop("usage_ledger", None)
        before["usage"].pop("usage_ledger", None)
    assert same(after, before)
    assert failures(function) == {}


@pytest.mark.parametrize("left", [{}, {"a": 1}, [1], 7])
async def test_a_mark_that_names_no_generation_does_no_harm(function: Any, left: Any) -> None:
    await function.inlet({}, __metadata__={"user_id": ALICE})
    for event in ({"id": left}, {"id": left, "type": "response.output_text.delta"}):
        await function.stream(event, __metadata__={"usage_ledger": {"id": left}})
    assert failures(function) == {}


@FUZZ
@given(response=CHUNKS | VALUES, kind=st.sampled_from(["created", "completed"]), metadata=METADATA)
async def test_no_event_of_the_responses_api_makes_the_stream_raise(
    function: Any, response: Any, kind: str, metadata: Any
) -> None:
    event = {"type": f"response.{kind}", "response": response}
    assert await function.stream(event, __metadata__=metadata) is event
    assert failures(function) == {}


@FUZZ
@given(body=INLETS | VALUES, metadata=METADATA | VALUES)
async def test_the_function_inlet_never_raises_and_leaves_its_mark_only(
    function: Any, body: Any, metadata: Any
) -> None:
    # Both may have drawn the same value, and only one of them is written to.
    before, metadata = copy.deepcopy(body), copy.deepcopy(metadata)
    assert await function.inlet(body, __metadata__=metadata) is body
    for one in (body, before):
        if isinstance(one, dict) and isinstance(one.get("metadata"), dict):
            one["metadata"].pop("usage_ledger_part", None)
    assert same(body, before)
    assert failures(function) == {}


@FUZZ
@given(body=OUTLETS | VALUES, metadata=METADATA | VALUES)
async def test_the_function_outlet_never_raises_and_changes_nothing(
    function: Any, body: Any, metadata: Any
) -> None:
    # Both may have drawn the same value, and only one of them is written to.
    before, metadata = copy.deepcopy(body), copy.deepcopy(metadata)
    assert await function.outlet(body, __metadata__=metadata) is body
    assert same(body, before)
    assert failures(function) == {}


@FUZZ
@given(body=INLETS | VALUES, user=USERS)
async def test_the_pipeline_inlet_never_raises_and_adds_only_who_asked(
    pipeline: Any, body: Any, user: Any
) -> None:
    before = copy.deepcopy(body)
    assert await pipeline.inlet(body, user) is body
    if isinstance(body, dict):
        for name in {"user", "session_id", "trace"} - before.keys():
            body.pop(name, None)
        for mark in {"usage_ledger_task", "usage_ledger_part"}:
            if isinstance(body.get("metadata"), dict):
                body["metadata"].pop(mark, None)
                before["metadata"].pop(mark, None)
    assert same(body, before)
    assert failures(pipeline) == {}


@FUZZ
@given(body=OUTLETS | VALUES, user=USERS)
async def test_the_pipeline_outlet_never_raises_and_changes_nothing(
    pipeline: Any, body: Any, user: Any
) -> None:
    before = copy.deepcopy(body)
    assert await pipeline.outlet(body, user) is body
    assert same(body, before)
    assert failures(pipeline) == {}


@FUZZ
@given(values=st.dictionaries(st.text(max_size=12), VALUES, max_size=3), known=VALUES)
def test_no_value_of_a_valve_keeps_the_plugin_from_loading(
    function: Any, pipeline: Any, values: dict[str, Any], known: Any
) -> None:
    for plugin in (function, pipeline):
        valves_class = type(plugin.valves)
        for name in valves_class.model_fields:
            valves = valves_class(**{**values, name: known})
            assert len(valves.problems) <= 1 + len(values.keys() & valves_class.model_fields.keys())


async def test_the_sum_of_what_is_booked_is_the_sum_of_the_valid_inputs(tmp_path: Path) -> None:
    costs: list[object] = [2.5e-05, "1.75e-6", 0, -1, float("nan"), None, "free", 1e400, {}, True]
    with running(load_as_pipeline(), "Pipeline", spool_dir=str(tmp_path)) as plugin:
        for number, cost in enumerate(costs):
            usage = {"total_tokens": 18, "is_byok": False, "cost": cost}
            message = {"id": f"message-{number}", "role": "assistant", "usage": usage}
            body = {"id": message["id"], "chat_id": "chat-1", "messages": [message]}
            await plugin.outlet(body, {"id": ALICE})
        booked = events(plugin)
        counted = plugin.status().counters
    settled = [event.cost_usd for event in booked if event.cost_usd is not None]
    assert settled == [Decimal("0.000025"), Decimal("0.00000175"), Decimal(0)]
    assert len(booked) == len(costs)
    assert counted == {
        "cost_negative": 1,
        "cost_not_finite": 2,
        "cost_missing": 1,
        "cost_not_a_number": 3,
    }
