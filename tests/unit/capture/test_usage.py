"""Usage objects: every shape that OpenRouter sent and Open WebUI merged, and hostile ones."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.capture.usage import parse_usage

FULL: dict[str, Any] = {
    "prompt_tokens": 272,
    "completion_tokens": 24,
    "total_tokens": 296,
    "cost": 0.0006252,
    "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 204, "cache_write_tokens": 3, "audio_tokens": 7},
    "cost_details": {"upstream_inference_cost": 0.0006252},
    "completion_tokens_details": {"reasoning_tokens": 15, "image_tokens": 0},
    "server_tool_use": {"web_search_requests": 1},
}
MERGED = FULL | {"input_tokens": 72, "output_tokens": 33, "total_tokens": 105}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def test_one_generation_is_read_with_its_details() -> None:
    usage = parse_usage(FULL)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (272, 24, 296)
    assert (usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (204, 3, 15)
    assert usage.cost_usd == Decimal("0.0006252")
    assert json.loads(usage.extra)["server_tool_use"] == {"web_search_requests": 1}


def test_a_merged_answer_is_read_by_its_sums() -> None:
    usage = parse_usage(MERGED, merged=True)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (72, 33, 105)
    assert parse_usage(MERGED).input_tokens == 272


def test_the_responses_names_are_read_too() -> None:
    usage = parse_usage(
        {
            "input_tokens": 9175,
            "input_tokens_details": {"cache_write_tokens": 9172},
            "output_tokens": 277,
            "output_tokens_details": {"reasoning_tokens": 135},
            "cost": 0.025706,
        }
    )
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (9175, 277, 9452)
    assert (usage.cache_write_tokens, usage.reasoning_tokens) == (9172, 135)


def test_upstream_is_money_only_when_the_key_is_the_customers() -> None:
    """OpenRouter fills upstream for every request; adding it doubled the bill elsewhere."""
    assert parse_usage(FULL).upstream_cost_usd is None
    own = parse_usage(FULL | {"is_byok": True, "cost": 0})
    assert (own.cost_usd, own.upstream_cost_usd) == (Decimal(0), Decimal("0.0006252"))


@pytest.mark.parametrize(
    ("cost", "problem"), [(None, "missing"), (-1, "negative"), (float("nan"), "not_finite")]
)
def test_an_unusable_cost_is_pending_with_a_reason(cost: object, problem: str) -> None:
    usage = parse_usage(FULL | {"cost": cost})
    assert (usage.cost_usd, usage.cost_problem) == (None, problem)
    assert usage.input_tokens == 272


def test_no_cost_at_all_is_pending_without_complaint() -> None:
    usage = parse_usage({"prompt_tokens": 1})
    assert (usage.cost_usd, usage.cost_problem) == (None, None)


def test_no_text_of_a_forged_usage_is_kept() -> None:
    usage = parse_usage(
        FULL | {"note": "the secret prompt", "deep": {"x": {"y": "secret"}, "n": 1}}
    )
    assert "secret" not in usage.extra
    assert json.loads(usage.extra)["deep"] == {"n": 1}


@given(st.dictionaries(st.sampled_from([*MERGED, "x"]) | st.text(max_size=8), values))
def test_nothing_in_a_usage_object_makes_reading_fail(raw: dict[str, Any]) -> None:
    for merged in (True, False):
        usage = parse_usage(raw, merged=merged)
        assert len(usage.extra) <= 1024
        assert min(usage.input_tokens, usage.output_tokens, usage.total_tokens) >= 0
