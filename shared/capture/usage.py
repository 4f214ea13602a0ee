"""Reading the usage objects that OpenRouter sends and Open WebUI merges."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from shared.core.ids import canonical_json
from shared.core.money import parse_usd
from shared.errors import UnusableCost

_EXTRA_MAX = 1024
_TOKENS_MAX = 2**53
_KNOWN = {
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cost",
    "is_byok",
    "usage_ledger",
}


@dataclass(frozen=True, kw_only=True)
class Usage:
    """A usage object, read. Tokens are native counts; `cost_usd` None means unknown, never 0.

    `cost_problem` says why a cost that was sent could not be used; it is None when none was sent.
    """

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    cost_problem: str | None
    is_byok: bool
    upstream_cost_usd: Decimal | None
    extra: str

    def event_fields(self) -> dict[str, Any]:
        """Return the fields of a usage event that come from its usage object."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
            "cached_tokens": self.cached_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "cost_usd": self.cost_usd,
            "is_byok": self.is_byok,
            "upstream_cost_usd": self.upstream_cost_usd,
            "usage_extra": self.extra,
        }


def parse_usage(raw: Mapping[str, Any], *, merged: bool = False) -> Usage:
    """Read a usage object; nothing in it can make this fail.

    `merged` reads Open WebUI's record of a whole answer, where input, output and total are sums and
    prompt and completion are those of the last generation only (`merge_usage`, Open WebUI 0.11).
    Otherwise the chat names win over those of the Responses and Messages APIs.
    """
    names = ("input_tokens", "prompt_tokens") if merged else ("prompt_tokens", "input_tokens")
    outputs = (
        ("output_tokens", "completion_tokens") if merged else ("completion_tokens", "output_tokens")
    )
    prompt_details = _first_mapping(raw, "prompt_tokens_details", "input_tokens_details")
    completion_details = _first_mapping(raw, "completion_tokens_details", "output_tokens_details")
    input_tokens = _first_tokens(raw, names)
    output_tokens = _first_tokens(raw, outputs)
    cost, problem = _cost(raw)
    is_byok = raw.get("is_byok") is True
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=_first_tokens(raw, ("total_tokens",)) or input_tokens + output_tokens,
        cached_tokens=_tokens(prompt_details.get("cached_tokens")),
        cache_write_tokens=_tokens(prompt_details.get("cache_write_tokens")),
        reasoning_tokens=_tokens(completion_details.get("reasoning_tokens")),
        cost_usd=cost,
        cost_problem=problem,
        is_byok=is_byok,
        upstream_cost_usd=upstream_cost(raw) if is_byok else None,
        extra=_extra(raw),
    )


def _cost(raw: Mapping[str, Any]) -> tuple[Decimal | None, str | None]:
    if "cost" not in raw:
        return None, None
    try:
        return parse_usd(raw["cost"]), None
    except UnusableCost as error:
        return None, error.reason


def upstream_cost(raw: Mapping[str, Any]) -> Decimal | None:
    """Return the provider's price, None when there is none; merged, that of the last step."""
    try:
        return parse_usd(_first_mapping(raw, "cost_details").get("upstream_inference_cost"))
    except UnusableCost:
        return None


def _first_mapping(raw: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        value = raw.get(name)
        if isinstance(value, Mapping):
            return value
    return {}


def _first_tokens(raw: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        if raw.get(name) is not None:
            return _tokens(raw[name])
    return 0


def _tokens(value: object) -> int:
    """Read a count of tokens: a number or a numeric string, anything else is 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        count = int(value[:20]) if isinstance(value, str) else int(value)
    except (ValueError, OverflowError):
        return 0
    return count if 0 <= count <= _TOKENS_MAX else 0


def _extra(raw: Mapping[str, Any]) -> str:
    """Keep the numbers that no other field keeps (server tools, audio, cost details), never a text.

    Text is left out because a forged body could put a prompt there. What does not fit 1 KB is
    dropped from the end, key by key.
    """
    kept: dict[str, object] = {}
    for key, value in list(raw.items())[:64]:
        if key in _KNOWN:
            continue
        rest = _numbers(value, depth=2)
        if rest is not None and rest != {}:
            kept[str(key)[:64]] = rest
    text = canonical_json(kept) if kept else ""
    return text if len(text) <= _EXTRA_MAX else _fitting_extra(kept)


def _fitting_extra(wanted: Mapping[str, object]) -> str:
    kept: dict[str, object] = {}
    for key, rest in wanted.items():
        if len(canonical_json({**kept, key: rest})) <= _EXTRA_MAX:
            kept[key] = rest
    return canonical_json(kept) if kept else ""


def _numbers(value: object, depth: int) -> object:
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) <= _TOKENS_MAX):
        return value
    if isinstance(value, float):
        return value if abs(value) <= _TOKENS_MAX else None  # NaN compares False
    if isinstance(value, Mapping) and depth:
        pairs = (
            (str(key)[:64], _numbers(item, depth - 1)) for key, item in list(value.items())[:64]
        )
        return {key: item for key, item in pairs if item not in (None, {}, 0)}
    return None
