"""Streams of the Responses API: the generation is named when it begins and when it ends."""

from decimal import Decimal
from typing import Any

import pytest

from tests.host.bodies import RECORD, generation_id, metadata, outlet
from tests.host.plugin import events, expire, session

HOST = "function"

USAGE: dict[str, Any] = {
    "input_tokens": 9175,
    "input_tokens_details": {"cached_tokens": 12, "cache_write_tokens": 9},
    "output_tokens": 277,
    "output_tokens_details": {"reasoning_tokens": 135},
    "total_tokens": 9452,
    "cost": 0.025706,
    "is_byok": False,
}


def event(kind: str, usage: object = None, **fields: Any) -> dict[str, Any]:
    response = {"id": generation_id(), "model": "openai/gpt-5-mini", "usage": usage} | fields
    return {"type": f"response.{kind}", "response": response}


async def stream(plugin: Any, answer: dict[str, Any], *sent: dict[str, Any]) -> None:
    for one in sent:
        assert await plugin.stream(one, __metadata__=answer) is one


async def test_a_response_is_booked_by_what_its_last_event_says(plugin: Any) -> None:
    answer = metadata(model=RECORD)
    last = event("completed", dict(USAGE), service_tier="default")
    delta = {"type": "response.output_text.delta", "delta": "word"}
    await stream(plugin, answer, event("created"), event("in_progress"), delta, last)
    await plugin.outlet(outlet(), __metadata__=answer)
    (booked,) = events(plugin)
    assert (booked.request_id, booked.cost_usd) == (generation_id(), Decimal("0.025706"))
    assert (booked.input_tokens, booked.output_tokens, booked.total_tokens) == (9175, 277, 9452)
    assert (booked.cached_tokens, booked.reasoning_tokens) == (12, 135)
    assert (booked.finish_reason, booked.service_tier) == ("stop", "default")
    assert last["response"]["usage"]["usage_ledger"] == [generation_id()]


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (
            "incomplete",
            {"incomplete_details": {"reason": "max_output_tokens"}},
            "max_output_tokens",
        ),
        ("failed", {}, "error"),
    ],
)
async def test_a_response_that_does_not_complete_is_billed_all_the_same(
    plugin: Any, kind: str, fields: dict[str, Any], reason: str
) -> None:
    last = event(kind, dict(USAGE), **fields)
    await stream(plugin, metadata(model=RECORD), event("created"), last)
    (booked,) = events(plugin)
    assert (booked.cost_usd, booked.finish_reason) == (Decimal("0.025706"), reason)


async def test_a_response_that_is_stopped_is_pending(plugin: Any) -> None:
    delta = {"type": "response.output_text.delta", "delta": "word"}
    await stream(plugin, metadata(model=RECORD), event("created"), delta)
    expire(plugin)
    (booked,) = events(plugin)
    assert (booked.request_id, booked.cost_source) == (generation_id(), "none")


async def test_words_of_a_response_keep_it_open(plugin: Any) -> None:
    answer = metadata(model=RECORD)
    await stream(plugin, answer, event("created"))
    open_generations = session(plugin).open
    open_generations.take_seen()
    await stream(plugin, answer, {"type": "response.output_text.delta", "delta": "word"})
    assert open_generations.take_seen() == [generation_id()]


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "response.completed", "response": {"id": "resp_1", "usage": USAGE}},
        {"type": "response.completed", "response": [7]},
        {"type": ["response."], "response": {"id": generation_id()}},
        {"type": "response.completed", "response": {"id": [1], "usage": "text"}},
        {"type": "response.incomplete", "response": {"incomplete_details": 3}},
    ],
    ids=str,
)
async def test_what_is_no_response_of_openrouter_is_not_booked(plugin: Any, odd: Any) -> None:
    await stream(plugin, metadata(model=RECORD), odd)
    expire(plugin)
    assert events(plugin) == []
    assert plugin.status().counters == {}
