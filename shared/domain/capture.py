"""From what a hook sees to the event it books: pure decisions, no disk and no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from shared.domain.event import UsageEvent, new_event
from shared.domain.identity import generation_time, turn_request_id
from shared.domain.inlet import Inlet
from shared.domain.openwebui import (
    chunk_finish_reason,
    host_id,
    json_object,
    message_time,
    short_text,
)
from shared.domain.usage import Usage, parse_usage

CaptureSource = Literal["function", "pipeline"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer as the outlet shows it: merged usage, no generation id."""

    source: CaptureSource
    user: str
    body: Mapping[str, Any]
    message: Mapping[str, Any]


def generation_event(
    chunk: Mapping[str, Any],
    metadata: Mapping[str, Any],
    client_org_id: str,
    now: datetime,
    finish_reason: str | None = None,
) -> tuple[UsageEvent, str | None]:
    """Build the event of one streamed generation, pending when the chunk has no usable cost.

    Returns it with the problem of its cost, if there is one. Raises InvalidEvent.
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
        cost_source="none" if usage.cost_usd is None else "response",
        chat_id=metadata.get("chat_id"),
        message_id=metadata.get("message_id"),
        finish_reason=chunk_finish_reason(chunk) or finish_reason,
        service_tier=chunk.get("service_tier"),
        **usage.event_fields(),
    )
    return event, usage.cost_problem


def turn_event(
    answer: Answer, inlet: Inlet, client_org_id: str, now: datetime
) -> tuple[UsageEvent, str | None]:
    """Build the event of a whole answer whose generations no hook showed.

    Returns it with the problem of its cost, if there is one. Raises InvalidEvent.
    """
    raw_usage = json_object(answer.message.get("usage"))
    usage = parse_usage(raw_usage, merged=True)
    if inlet.is_continued:
        occurred_at = inlet.at
        amounts = _continued_amounts(raw_usage, inlet)
    else:
        occurred_at = message_time(answer.message) or now
        amounts = {
            **usage.event_fields(),
            "cost_source": "none" if usage.cost_usd is None else "outlet",
        }
    event = new_event(
        request_id=turn_request_id(
            host_id(answer.body.get("chat_id")),
            host_id(answer.body.get("id")),
            usage.total_tokens if inlet.is_continued else None,
        ),
        grain="turn",
        occurred_at=occurred_at,
        client_org_id=client_org_id,
        external_user=answer.user,
        requested_model=answer.body.get("model"),
        model=inlet.model,
        source=answer.source,
        chat_id=answer.body.get("chat_id"),
        message_id=answer.body.get("id"),
        finish_reason=answer.message.get("finish_reason"),
        **amounts,
    )
    return event, usage.cost_problem


def _continued_amounts(raw_usage: Mapping[str, Any], inlet: Inlet) -> dict[str, Any]:
    """Estimate a continued answer: Open WebUI adds its earlier part again, and again.

    Only prompt_tokens and completion_tokens are those of the last generation. Cached tokens are
    merged too, so the estimate knows no discount for them.
    """
    last = parse_usage(
        {name: raw_usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    )
    estimate = _estimate(last, inlet)
    return {
        "input_tokens": last.input_tokens,
        "output_tokens": last.output_tokens,
        "total_tokens": last.total_tokens,
        "estimated_cost_usd": estimate,
        "cost_source": "none" if estimate is None else "estimate",
    }


def _estimate(last: Usage, inlet: Inlet) -> Decimal | None:
    if inlet.prompt_price is None or inlet.completion_price is None:
        return None
    return last.input_tokens * inlet.prompt_price + last.output_tokens * inlet.completion_price
