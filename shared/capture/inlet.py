"""The inlet of an answer: what a request shows of the answer to come."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from shared.capture.openwebui import (
    ModelRecord,
    openrouter_model,
    openwebui_id,
    read_model_record,
    short_text,
)
from shared.core.ids import generation_time, part_request_id, turn_request_id
from shared.core.rows import UnmeteredRow

# How a model is billed: its record is OpenRouter's; a valve names its connection; its record is
# unknown but its name is like OpenRouter's; by another vendor.
Billing = Literal["openrouter", "named", "likely", "foreign"]


@dataclass(frozen=True, kw_only=True)
class Inlet:
    """What the inlet of an answer knew; the outlet sees none of it.

    `model` is OpenRouter's name with presets and arenas resolved, or `unresolved:` and what was
    asked for. Prices are US dollars per token. `is_duplicate_total`: an
    earlier continuation of the same answer came to the same total of tokens.
    """

    at: datetime
    user: str
    requested_model: str
    model: str
    task: str
    chat_id: str
    message_id: str
    is_continued: bool
    is_duplicate_total: bool = False
    billing: Billing
    prompt_price: Decimal | None = None
    completion_price: Decimal | None = None


def read_inlet(
    metadata: Mapping[str, Any],
    requested: str,
    user: str,
    now: datetime,
    known: Callable[[str], ModelRecord | None],
    extra_connections: frozenset[str],
) -> Inlet:
    """Read the metadata of a request.

    `known` finds the record of another model by its exact id, `extra_connections` are tags of
    connections that bill through OpenRouter although their records do not show it.
    """
    task = short_text(metadata.get("task"))
    # An arena draws a model for the chat; a background task names its own.
    drawn = "" if task else short_text(metadata.get("selected_model_id"))
    model, record = _resolve(metadata, drawn or requested, known)
    message_id = openwebui_id(metadata.get("message_id"))
    return Inlet(
        at=now,
        user=user,
        requested_model=requested,
        model=model or f"unresolved:{requested}",
        task=task or "chat",
        chat_id=openwebui_id(metadata.get("chat_id")),
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
    """Build the row of a generation whose cost no hook shows: a task, an answer without outlet."""
    return UnmeteredRow(
        request_id=request_id or _unmetered_request_id(inlet),
        occurred_at=inlet.at,
        client_org_id=client_org_id,
        external_user=inlet.user,
        model=inlet.model,
        task=inlet.task,
        chat_id=inlet.chat_id,
        message_id=inlet.message_id,
    )


def _unmetered_request_id(inlet: Inlet) -> str:
    if inlet.is_continued:
        return part_request_id(inlet.chat_id, inlet.message_id, inlet.at)
    return turn_request_id(inlet.chat_id, inlet.message_id)


def is_fresh(generation_ids: Sequence[str], inlet: Inlet) -> bool:
    """Tell whether one of these generations began with this inlet, not with an earlier one.

    An id has whole seconds, and one of the old form has no time: it counts as fresh.
    """
    began = inlet.at.replace(microsecond=0)
    return any((generation_time(found) or began) >= began for found in generation_ids)
