"""From what a hook sees to the event it books: pure decisions, no disk and no clock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from shared.domain.event import UsageEvent, new_event
from shared.domain.identity import generation_time, turn_request_id
from shared.domain.openwebui import (
    ModelRecord,
    chunk_finish_reason,
    host_id,
    json_object,
    message_time,
    openrouter_model,
    read_model_record,
    short_text,
)
from shared.domain.rows import UnmeteredRow
from shared.domain.usage import Usage, parse_usage

CaptureSource = Literal["function", "pipeline"]
# How a model is billed: its record is OpenRouter's; a valve names its connection; nobody has seen
# its record but its name is like OpenRouter's; by somebody else.
Billing = Literal["openrouter", "named", "likely", "foreign"]


@dataclass(frozen=True, kw_only=True)
class Inlet:
    """What the inlet of an answer knew; the outlet is told none of it.

    `model` is OpenRouter's name with presets and arenas resolved, or `unresolved:` and what was
    asked for. Prices are US dollars per token.
    """

    at: datetime
    user: str
    requested_model: str
    model: str
    task: str
    chat_id: str
    message_id: str
    is_continued: bool
    billing: Billing
    prompt_price: Decimal | None = None
    completion_price: Decimal | None = None


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


def read_inlet(
    metadata: Mapping[str, Any],
    requested: str,
    user: str,
    now: datetime,
    known: Callable[[str], ModelRecord | None],
    extra_connections: frozenset[str],
) -> Inlet:
    """Read what the metadata of a request tell of its answer.

    `known` finds the record of another model under exactly its id, `extra_connections` are tags of
    connections that bill through OpenRouter although their records do not show it.
    """
    task = short_text(metadata.get("task"))
    # An arena draws a model for the chat; a background task names its own.
    drawn = "" if task else short_text(metadata.get("selected_model_id"))
    model, record = _resolve(metadata, drawn or requested, known)
    message_id = host_id(metadata.get("message_id"))
    return Inlet(
        at=now,
        user=user,
        requested_model=requested,
        model=model or f"unresolved:{requested}",
        task=task or "chat",
        chat_id=host_id(metadata.get("chat_id")),
        message_id=message_id,
        is_continued=bool(message_id) and metadata.get("assistant_message_id") == message_id,
        billing=_billing(model, record, extra_connections),
        prompt_price=record.prompt_price if record else None,
        completion_price=record.completion_price if record else None,
    )


def _resolve(
    metadata: Mapping[str, Any], model_id: str, known: Callable[[str], ModelRecord | None]
) -> tuple[str | None, ModelRecord | None]:
    """Find the model that answers behind a preset or an arena, and its record."""
    record = read_model_record(metadata.get("model"))
    if record is None or record.model_id != model_id:
        record = known(model_id)
    if record is not None and record.base_model_id:
        model_id = record.base_model_id
        record = known(model_id)
    if record is not None:
        return (None if record.is_arena else openrouter_model(model_id)), record
    # Without a record a name is trusted only when it looks like OpenRouter's: author/model.
    return (openrouter_model(model_id) if "/" in model_id else None), None


def _billing(
    model: str | None, record: ModelRecord | None, extra_connections: frozenset[str]
) -> Billing:
    if record is None:
        return "foreign" if model is None else "likely"
    if record.is_openrouter:
        return "openrouter"
    return "foreign" if record.tags.isdisjoint(extra_connections) else "named"


def unmetered_row(inlet: Inlet, client_org_id: str, request_id: str | None = None) -> UnmeteredRow:
    """Build the row of a generation whose cost no hook shows: a task, or an answer left silent."""
    return UnmeteredRow(
        request_id=request_id or turn_request_id(inlet.chat_id, inlet.message_id),
        occurred_at=inlet.at,
        client_org_id=client_org_id,
        external_user=inlet.user,
        model=inlet.model,
        task=inlet.task,
        chat_id=inlet.chat_id,
        message_id=inlet.message_id,
    )


def is_fresh(generation_ids: Sequence[str], inlet: Inlet) -> bool:
    """Tell whether one of these generations was begun by this inlet, not by an earlier part.

    An id has whole seconds, and one of the old form has none.
    """
    began = inlet.at.replace(microsecond=0)
    return any((generation_time(found) or began) >= began for found in generation_ids)
