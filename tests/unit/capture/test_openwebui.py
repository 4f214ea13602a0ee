"""Reading Open WebUI's bodies: which message, which model, whose bill."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from shared.capture.openwebui import (
    answer_message,
    chunk_finish_reason,
    has_openrouter_usage,
    is_openrouter_chunk,
    is_running_total,
    ledger_ids,
    message_time,
    openrouter_model,
    openwebui_id,
    read_model_record,
)
from tests.support.builders import generation_id

RECORD = {
    "id": "openai/gpt-5-mini",
    "canonical_slug": "openai/gpt-5-mini-2025-08-07",
    "pricing": {"prompt": "0.00000025", "completion": "0.000002"},
    "top_provider": {"is_moderated": False},
    "tags": [{"name": "openrouter"}, {"name": ""}, "nonsense"],
    "owned_by": "openai",
}


def test_a_record_with_openrouters_fields_is_openrouters() -> None:
    record = read_model_record(RECORD)
    assert record is not None
    assert record.is_openrouter
    assert (record.prompt_price, record.completion_price) == (
        Decimal("0.00000025"),
        Decimal("0.000002"),
    )
    assert record.tags == {"openrouter"}


@pytest.mark.parametrize("missing", ["pricing", "canonical_slug", "top_provider"])
def test_a_record_without_one_of_them_is_not(missing: str) -> None:
    record = read_model_record({name: RECORD[name] for name in RECORD if name != missing})
    assert record is not None
    assert not record.is_openrouter


def test_a_preset_names_its_base_model_and_an_arena_none() -> None:
    preset = read_model_record({"id": "law", "info": {"base_model_id": "openai/gpt-5-mini"}})
    arena = read_model_record({"id": "arena-1", "owned_by": "arena", "arena": True})
    assert preset is not None
    assert arena is not None
    assert preset.base_model_id == "openai/gpt-5-mini"
    assert (arena.is_arena, preset.is_arena, arena.base_model_id) == (True, False, None)


@pytest.mark.parametrize("raw", [None, "", [], {}, {"id": 7}, {"id": "x" * 200}])
def test_what_names_no_model_is_no_record(raw: object) -> None:
    assert read_model_record(raw) is None


def test_a_price_of_minus_one_is_no_price() -> None:
    record = read_model_record(RECORD | {"pricing": {"prompt": "-1", "completion": "-1"}})
    assert record is not None
    assert (record.prompt_price, record.completion_price) == (None, None)


@pytest.mark.parametrize(
    ("listed", "model"),
    [
        ("openai/gpt-5-mini", "openai/gpt-5-mini"),
        ("or.openai/gpt-5-mini", "openai/gpt-5-mini"),
        ("eu.or.qwen/qwen3-8b:free", "qwen/qwen3-8b:free"),
        ("z-ai/glm-4.6", "z-ai/glm-4.6"),
        ("local-llama", "local-llama"),
    ],
)
def test_the_prefix_of_a_connection_is_no_part_of_the_model(listed: str, model: str) -> None:
    assert openrouter_model(listed) == model


def outlet(**fields: Any) -> dict[str, Any]:
    answer = {"id": "m-2", "role": "assistant", "usage": {"cost": 1}}
    earlier = {"id": "m-1", "role": "assistant", "usage": {"cost": 5}}
    return {"id": "m-2", "messages": [earlier, {"id": "u-2", "role": "user"}, answer]} | fields


def test_the_answer_is_the_last_message_and_only_if_the_outlet_is_about_it() -> None:
    assert answer_message(outlet())["usage"] == {"cost": 1}
    assert answer_message(outlet(id="m-1")) == {}
    assert answer_message(outlet(messages=[{"id": "m-2", "role": "user"}])) == {}
    assert answer_message(outlet(messages=[])) == {}
    assert answer_message(outlet(id=None, messages=[{"id": None, "role": "assistant"}])) == {}
    assert answer_message({}) == {}


@pytest.mark.parametrize(
    "usage",
    [{"cost": 0}, {"cost": None}, {"is_byok": False}, {"cost_details": {}}, {"cost": "0.1"}],
)
def test_who_says_what_it_charged_is_openrouter(usage: dict[str, Any]) -> None:
    assert has_openrouter_usage(usage)


@pytest.mark.parametrize(
    "usage", [{}, {"prompt_tokens": 9}, {"cost": {"total_cost": 0.1}}, {"cost_details": None}]
)
def test_other_vendors_usage_is_not_openrouters(usage: dict[str, Any]) -> None:
    assert not has_openrouter_usage(usage)


def test_a_chunk_is_openrouters_by_its_id_and_its_provider_or_its_cost() -> None:
    assert is_openrouter_chunk({"id": generation_id(), "provider": "OpenAI"})
    assert is_openrouter_chunk({"id": generation_id(), "usage": {"cost": None}})
    assert not is_openrouter_chunk({"id": generation_id()})
    assert not is_openrouter_chunk({"id": "chatcmpl-1", "provider": "OpenAI"})
    assert not is_openrouter_chunk({"id": "gen-1:attempt-0", "provider": "OpenAI"})
    assert not is_openrouter_chunk({"selected_model_id": "openai/gpt-5-mini"})


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "word"},
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0}]},
        {"images": [{}]},
        {"audio": {"data": ""}},
    ],
)
def test_usage_beside_a_part_of_the_answer_is_a_running_total(delta: dict[str, Any]) -> None:
    assert is_running_total({"choices": [{"delta": delta}], "usage": {}})


@pytest.mark.parametrize(
    "choices",
    [[], None, "x", [None], [{"delta": {"role": "assistant", "content": ""}}], [{"delta": None}]],
)
def test_usage_beside_nothing_is_final(choices: object) -> None:
    assert not is_running_total({"choices": choices})


def test_the_finish_reason_is_that_of_the_first_choice() -> None:
    assert chunk_finish_reason({"choices": [{"finish_reason": "stop"}]}) == "stop"
    assert chunk_finish_reason({"choices": [{"finish_reason": None}]}) is None
    assert chunk_finish_reason({"choices": [{"finish_reason": {"a": 1}}]}) is None
    assert chunk_finish_reason({}) is None


def test_the_ids_a_function_left_are_read_and_nothing_else() -> None:
    left = [generation_id(1), "turn:1", 7, None, generation_id(2)]
    assert ledger_ids({"usage_ledger": left}) == [generation_id(1), generation_id(2)]
    assert ledger_ids({"usage_ledger": "gen-1"}) == []
    assert ledger_ids({}) == []
    assert len(ledger_ids({"usage_ledger": [generation_id()] * 1000})) == 200


def test_a_message_time_is_seconds_since_1970() -> None:
    assert message_time({"timestamp": 1795430853}) == datetime(2026, 11, 23, 10, 47, 33, tzinfo=UTC)
    for raw in (None, True, "1795430853", -1, 0, 1795430853000, float("nan"), float("inf")):
        assert message_time({"timestamp": raw}) is None


def test_an_id_that_cannot_name_a_turn_is_no_id() -> None:
    assert openwebui_id("channel:0b5cf1a4-2f0e-4c57-9f4c-5a3a6a3c0b3e")
    for raw in (None, 7, "x" * 69, "a\nb", "\x00", "a\\", "\ud800"):
        assert openwebui_id(raw) == ""
