"""The mock OpenRouter bills by hand-computed prices, whatever it tells of them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import httpx
import pytest

from demo.mock_openrouter.answers import is_task, words_of
from demo.mock_openrouter.ledger import PRICES, Generation, Ledger
from demo.mock_openrouter.server import build_app

HAIKU = "anthropic/claude-haiku-4.5"


def generation(words: Mapping[str, str] | None = None, **fields: Any) -> Generation:
    """Return 100 prompt and 10 completion tokens of Claude Haiku."""
    defaults: dict[str, Any] = {
        "generation_id": "gen-1795511301-00000000000000000001",
        "connection": "openrouter",
        "created": 1795511301.0,
        "requested_model": HAIKU,
        "model": HAIKU,
        "price": PRICES[HAIKU],
        "stream": True,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "words": words or {},
    }
    return Generation(**(defaults | fields))


@pytest.mark.parametrize(
    ("words", "fields", "cost"),
    [
        ({}, {}, "0.00015"),  # 100 x 1e-6 + 10 x 5e-6
        ({}, {"cached_tokens": 60, "cache_write_tokens": 20}, "0.000101"),
        ({"byok": ""}, {}, "0.0000075"),  # 5 %
        ({"discount": ""}, {}, "0.0001485"),  # 1 % off
        ({"fees": ""}, {}, "0.01015"),  # one web search
        ({"null-cost": ""}, {}, "0.00015"),  # billed all the same
        ({}, {"status": "refused"}, "0"),
        ({}, {"connection": "foreign"}, "0"),
    ],
)
def test_it_bills_tokens_at_their_price(
    words: dict[str, str], fields: dict[str, Any], cost: str
) -> None:
    assert generation(words, **fields).cost == Decimal(cost)


def test_it_sends_the_bill_as_the_shortest_double() -> None:
    usage = generation(prompt_tokens=3, completion_tokens=0).usage()
    assert repr(usage["cost"]) == "3e-06"


def test_it_tells_of_a_generation_only_when_asked_again() -> None:
    ledger = Ledger()
    ledger.generations.append(generation(status="cancelled"))
    generation_id = ledger.generations[0].generation_id
    assert ledger.record(generation_id) is None
    record = ledger.record(generation_id)
    assert record is not None
    assert (record["total_cost"], record["cancelled"]) == (0.00015, True)


def test_a_background_task_chooses_no_oddity() -> None:
    prompt = "### Task:\nName this chat: USER: hello [[402]]"
    assert is_task(prompt)
    assert words_of(prompt) == {}
    assert words_of("hello [[402]] [[tools=2]]") == {"402": "", "tools": "2"}


async def test_what_it_streams_is_what_it_bills() -> None:
    transport = httpx.ASGITransport(build_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://mock") as client:
        messages = [{"role": "user", "content": "hello there"}]
        body = {"model": HAIKU, "messages": messages, "stream": True}
        text = (await client.post("/api/v1/chat/completions", json=body)).text
        [row] = (await client.get("/__ledger")).json()
    assert Decimal(row["cost"]) == Decimal("0.000036")  # 6 prompt tokens, 6 words
    assert '"cost": 3.6e-05' in text
    assert text.endswith("data: [DONE]\n\n")


async def test_it_answers_by_the_responses_api_at_the_same_price() -> None:
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    body = {"model": HAIKU, "input": [said], "stream": False}
    transport = httpx.ASGITransport(build_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://mock") as client:
        answer = (await client.post("/api/v1/responses", json=body)).json()
        [row] = (await client.get("/__ledger")).json()
    usage = answer["usage"]
    assert answer["output"][0]["content"][0]["text"].startswith("word0 word1")
    assert (usage["input_tokens"], usage["output_tokens"]) == (5, 6)
    assert Decimal(repr(usage["cost"])) == Decimal(row["cost"]) == Decimal("0.000035")
    assert (row["id"], row["status"]) == (answer["id"], "ok")
