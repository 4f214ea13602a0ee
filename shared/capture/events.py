"""From what a hook sees to the event it books: pure decisions, no disk and no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from shared.capture.inlet import Inlet
from shared.capture.openwebui import (
    answer_key_hash,
    chunk_finish_reason,
    is_one_text,
    json_object,
    message_time,
    openwebui_id,
    short_text,
)
from shared.capture.usage import Usage, parse_usage, upstream_cost
from shared.core.event import UsageEvent, new_event
from shared.core.ids import NO_KEY, generation_time, part_request_id, turn_request_id

CaptureSource = Literal["function", "pipeline"]
# In Open WebUI's record of an answer these are of its last generation; the others are sums.
_LAST_NAMES = ("prompt_tokens", "completion_tokens")
_ROUNDING_USD = Decimal("1e-12")


@dataclass(frozen=True, kw_only=True)
class CapturedAnswer:
    """An answer as the outlet shows it: merged usage, no generation id."""

    source: CaptureSource
    user: str
    body: Mapping[str, Any]
    message: Mapping[str, Any]
    api_key_hash: str = NO_KEY


def generation_event(
    chunk: Mapping[str, Any],
    metadata: Mapping[str, Any],
    client_org_id: str,
    now: datetime,
    finish_reason: str | None = None,
) -> tuple[UsageEvent, str | None]:
    """Build the event of one streamed generation, pending when the chunk has no usable cost.

    Returns it with the reason why its cost cannot be used, if it cannot. Raises InvalidEvent.
    """
    raw_usage = json_object(chunk.get("usage"))
    usage = parse_usage(raw_usage)
    model = short_text(chunk.get("model")) or short_text(metadata.get("model_id"))
    event = new_event(
        request_id=chunk.get("id"),
        grain="generation",
        occurred_at=generation_time(str(chunk.get("id"))) or now,
        client_org_id=client_org_id,
        external_user=metadata.get("user_id"),
        requested_model=short_text(metadata.get("model_id")) or model,
        model=model,
        provider=chunk.get("provider"),
        source="function",
        api_key_hash=answer_key_hash(metadata),
        cost_source="none" if usage.cost_usd is None else "response",
        chat_id=metadata.get("chat_id"),
        message_id=metadata.get("message_id"),
        finish_reason=chunk_finish_reason(chunk) or finish_reason,
        service_tier=chunk.get("service_tier"),
        **usage.event_fields(),
    )
    return event, usage.cost_problem


def turn_event(
    answer: CapturedAnswer, inlet: Inlet, client_org_id: str, now: datetime
) -> tuple[UsageEvent, str | None]:
    """Build the event of a whole answer whose generations no hook showed.

    Returns it with the reason why its cost cannot be used, if it cannot. Raises InvalidEvent.
    """
    raw_usage = json_object(answer.message.get("usage"))
    usage = parse_usage(raw_usage, merged=True)
    occurred_at = inlet.at if inlet.is_continued else message_time(answer.message) or now
    if inlet.is_continued or is_merged_wrongly(answer.message):
        amounts = _last_amounts(raw_usage, inlet)
    elif _lacks_a_step(usage, raw_usage, inlet):
        unknown = {"cost_usd": None, "upstream_cost_usd": None, "cost_source": "estimate"}
        amounts = usage.event_fields() | unknown | {"estimated_cost_usd": _estimate(usage, inlet)}
    else:
        amounts = {
            **usage.event_fields(),
            "cost_source": "none" if usage.cost_usd is None else "outlet",
        }
    event = new_event(
        request_id=_turn_name(answer.body, inlet, usage.total_tokens),
        grain="turn",
        occurred_at=occurred_at,
        client_org_id=client_org_id,
        external_user=answer.user,
        requested_model=answer.body.get("model"),
        model=inlet.model,
        source=answer.source,
        api_key_hash=answer.api_key_hash,
        chat_id=answer.body.get("chat_id"),
        message_id=answer.body.get("id"),
        finish_reason=answer.message.get("finish_reason"),
        **amounts,
    )
    return event, usage.cost_problem


def _turn_name(body: Mapping[str, Any], inlet: Inlet, total_tokens: int) -> str:
    ids = openwebui_id(body.get("chat_id")), openwebui_id(body.get("id"))
    if inlet.is_duplicate_total:
        return part_request_id(*ids, inlet.at)
    return turn_request_id(*ids, total_tokens if inlet.is_continued else None)


def is_merged_wrongly(message: Mapping[str, Any]) -> bool:
    """Tell whether the sums of an answer hold more than its one generation.

    Open WebUI adds up what a continued answer cost before, and usage that a provider sends twice;
    without a tool in between there is one generation, and only its unmerged tokens are right.
    """
    raw_usage = json_object(message.get("usage"))
    if not raw_usage.keys() >= set(_LAST_NAMES) or not is_one_text(message):
        return False
    merged, last = parse_usage(raw_usage, merged=True), _last_usage(raw_usage)
    return (merged.input_tokens, merged.output_tokens) != (last.input_tokens, last.output_tokens)


def _lacks_a_step(usage: Usage, raw_usage: Mapping[str, Any], inlet: Inlet) -> bool:
    """Tell whether the cost of a tool loop is that of all its steps but the last, or of that alone.

    Open WebUI adds a cost of null as 0. Only where every token is charged at its list price can
    the sum tell; cached ones are not, and of the last step their number is unknown. Nor can it
    where the discount of the last step, given to all of them, makes the same sum.
    """
    whole, end = _estimate(usage, inlet), _estimate(_last_usage(raw_usage), inlet)
    if usage.cost_usd is None or whole is None or end is None or not 0 < end < whole:
        return False
    if usage.cached_tokens or usage.cache_write_tokens:
        return False
    upstream = upstream_cost(raw_usage)
    if upstream is not None and abs(usage.cost_usd - whole * upstream / end) <= _ROUNDING_USD:
        return False
    return any(abs(usage.cost_usd - sum_) <= _ROUNDING_USD for sum_ in (whole - end, end))


def _last_usage(raw_usage: Mapping[str, Any]) -> Usage:
    return parse_usage({name: raw_usage.get(name) for name in _LAST_NAMES})


def _last_amounts(raw_usage: Mapping[str, Any], inlet: Inlet) -> dict[str, Any]:
    """Estimate the last generation of an answer, where the merged cost is wrong.

    Cached tokens are merged too, so the estimate knows no discount for them.
    """
    last = _last_usage(raw_usage)
    estimate = _estimate(last, inlet)
    return {
        "input_tokens": last.input_tokens,
        "output_tokens": last.output_tokens,
        "total_tokens": last.total_tokens,
        "estimated_cost_usd": estimate,
        "cost_source": "none" if estimate is None else "estimate",
    }


def _estimate(usage: Usage, inlet: Inlet) -> Decimal | None:
    if inlet.prompt_price is None or inlet.completion_price is None:
        return None
    return usage.input_tokens * inlet.prompt_price + usage.output_tokens * inlet.completion_price
