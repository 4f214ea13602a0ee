"""The Function hooks on captured bodies: what is booked equals what was billed."""

from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

from shared.core.event import UsageEvent
from tests.host.captures import CONVERSATION, NOT_CAPTURED, SCENARIOS, Answers, ledger, read
from tests.host.plugin import events, expire, load_as_function, running

# `i_api_tools_nonstream`: no outlet comes. `k_saved_402`: OpenRouter refused, nothing was billed.
# The background tasks call no hook of a Function.
SEEN_BY_NO_HOOK = {"i_api_tools_nonstream", "k_saved_402"}
STORES = [(name,) for name in SCENARIOS if name not in CONVERSATION] + [CONVERSATION]


@pytest.fixture(scope="module")
def plugin_module() -> ModuleType:
    return load_as_function()


async def replay(
    module: ModuleType, spool_dir: Path, scenarios: tuple[str, ...]
) -> list[UsageEvent]:
    with running(module, "Filter", spool_dir=str(spool_dir)) as plugin:
        for scenario in scenarios:
            answers = Answers(scenario)
            for chunk, metadata in answers.chunks():
                await plugin.stream(chunk, __metadata__=metadata)
            for body, metadata in answers.outlets():
                await plugin.outlet(body, __metadata__=metadata)
        expire(plugin)
        assert plugin.status().counters == {}
        return events(plugin)


def priced_chunks(scenario: str) -> set[str]:
    """Return the generations whose usage stands in a captured chunk."""
    bodies = [call["body"] for call in read(scenario, "function.stream")]
    return {body["id"] for body in bodies if body.get("usage")}


@pytest.mark.parametrize("scenarios", STORES, ids=lambda names: names[0])
async def test_every_chat_the_hooks_show_is_booked_as_billed(
    plugin_module: ModuleType, tmp_path: Path, scenarios: tuple[str, ...]
) -> None:
    booked = await replay(plugin_module, tmp_path, scenarios)
    bills = [
        (scenario, row)
        for scenario in scenarios
        for row in ledger(scenario)
        if scenario not in SEEN_BY_NO_HOOK and row["id"] not in NOT_CAPTURED
    ]
    expected: dict[str, Decimal | None] = {}
    for scenario, row in bills:
        is_priced = row["id"] in priced_chunks(scenario) or not row["stream"]
        name = row["id"] if row["stream"] else turn_of(scenario)
        expected[name] = Decimal(row["cost"]) if is_priced else None
    assert {event.request_id: event.cost_usd for event in booked} == expected
    assert len(booked) == len(expected)


def turn_of(scenario: str) -> str:
    (outlet,) = read(scenario, "function.outlet")
    return f"turn:{outlet['body']['chat_id']}:{outlet['body']['id']}"


@pytest.mark.parametrize(
    ("scenario", "model", "requested"),
    [
        ("m_preset", "openai/gpt-5-mini", "lab-preset"),
        ("a_free", "meta-llama/llama-3.3-70b-instruct:free", None),
        ("a_cached_reasoning", "anthropic/claude-sonnet-4.5", None),
    ],
)
async def test_the_model_is_the_one_that_answered(
    plugin_module: ModuleType, tmp_path: Path, scenario: str, model: str, requested: str | None
) -> None:
    (event,) = await replay(plugin_module, tmp_path, (scenario,))
    assert (event.model, event.requested_model) == (model, requested or model)
    assert event.provider == "MockProvider"
    assert event.finish_reason is None or event.finish_reason == "stop"


async def test_cached_and_reasoning_tokens_are_kept(
    plugin_module: ModuleType, tmp_path: Path
) -> None:
    (event,) = await replay(plugin_module, tmp_path, ("a_cached_reasoning",))
    (row,) = ledger("a_cached_reasoning")
    counted = (event.input_tokens, event.output_tokens, event.cached_tokens, event.reasoning_tokens)
    assert counted == (
        row["prompt_tokens"],
        row["completion_tokens"],
        row["cached_tokens"],
        row["reasoning_tokens"],
    )
    assert event.cached_tokens > 0
    assert event.reasoning_tokens > 0
