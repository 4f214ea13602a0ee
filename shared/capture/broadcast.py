"""Reading OpenRouter's Broadcast: OTLP JSON, one usage event per root span of a generation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from json import JSONDecodeError, loads
from typing import Any

from shared.capture.openwebui import json_object, short_text
from shared.capture.usage import parse_usage
from shared.capture.webhook import WebhookOwner, webhook_amounts, webhook_model, webhook_user
from shared.core.event import UsageEvent, new_event
from shared.core.ids import generation_time, is_generation_id
from shared.errors import InvalidEvent

SPANS_MAX = 1000
_ATTRIBUTES_MAX = 500
_GENERATION_COST = "openrouter_generation"
_SPAN_FAILED = 2


@dataclass(frozen=True)
class BroadcastReading:
    """The events of a delivery, and why some of its generations could not become one."""

    events: list[UsageEvent]
    refused: list[InvalidEvent]


def is_broadcast(body: Mapping[str, Any]) -> bool:
    return "resourceSpans" in body


def broadcast_events(
    body: Mapping[str, Any], owner: WebhookOwner, now: datetime
) -> BroadcastReading:
    """Read a delivery. Child spans, such as attempts, repeat their root's money and are left out.

    Raises InvalidEvent for more spans than one request can have.
    """
    events: list[UsageEvent] = []
    refused: list[InvalidEvent] = []
    for number, span in enumerate(_spans(body)):
        if number >= SPANS_MAX:
            raise InvalidEvent("too_many_spans", "resourceSpans", SPANS_MAX)
        attributes = _attributes(span)
        if not _is_root_span(attributes):
            continue
        try:
            events.append(_span_event(span, attributes, owner, now))
        except InvalidEvent as error:
            refused.append(error)
    return BroadcastReading(events, refused)


def _spans(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in _objects(body.get("resourceSpans")):
        for scope in _objects(resource.get("scopeSpans")):
            yield from _objects(scope.get("spans"))


def _objects(value: object) -> Iterator[dict[str, Any]]:
    return (json_object(item) for item in value) if isinstance(value, list) else iter(())


def _attributes(span: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes as plain values; OTLP writes 64-bit integers as numbers or as text."""
    found: dict[str, Any] = {}
    for attribute in list(_objects(span.get("attributes")))[:_ATTRIBUTES_MAX]:
        value = json_object(attribute.get("value"))
        name = attribute.get("key")
        if isinstance(name, str) and value:
            found[name] = next(iter(value.values()))
    return found


def _is_root_span(attributes: Mapping[str, Any]) -> bool:
    """Tell a generation from its attempts, whose ids carry a colon."""
    is_generation = attributes.get("span.type", "generation") == "generation"
    return is_generation and is_generation_id(attributes.get("gen_ai.response.id"))


def _span_event(
    span: Mapping[str, Any], attributes: Mapping[str, Any], owner: WebhookOwner, now: datetime
) -> UsageEvent:
    request_id = str(attributes["gen_ai.response.id"])
    usage = parse_usage(_span_usage(span, attributes))
    requested = attributes.get("gen_ai.request.model")
    return new_event(
        request_id=request_id,
        grain="generation",
        occurred_at=generation_time(request_id) or _nanoseconds(span, "startTimeUnixNano") or now,
        client_org_id=owner.default,
        external_user=webhook_user(attributes.get("user.id")),
        requested_model=short_text(requested),
        model=webhook_model(attributes.get("gen_ai.response.model") or requested),
        provider=_metadata(attributes, "openrouter.provider_name"),
        task=_metadata(attributes, "owui_task"),
        source="webhook",
        chat_id=_metadata(attributes, "owui_chat_id"),
        message_id=_metadata(attributes, "owui_message_id"),
        finish_reason=attributes.get("gen_ai.response.finish_reason"),
        latency_ms=_latency_ms(span),
        **webhook_amounts(usage),
    )


def _span_usage(span: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Write the attributes as the usage object that OpenRouter puts into an answer."""
    cache_write = attributes.get("gen_ai.usage.input_tokens.cache_write")
    usage: dict[str, Any] = {
        "prompt_tokens": attributes.get("gen_ai.usage.input_tokens"),
        "completion_tokens": attributes.get("gen_ai.usage.output_tokens"),
        "total_tokens": attributes.get("gen_ai.usage.total_tokens"),
        "prompt_tokens_details": {
            "cached_tokens": attributes.get("gen_ai.usage.input_tokens.cached"),
            "cache_write_tokens": cache_write or _timed_cache_writes(attributes),
        },
        "completion_tokens_details": {
            "reasoning_tokens": attributes.get("gen_ai.usage.output_tokens.reasoning")
        },
        "is_byok": _is_byok(attributes),
    }
    cost = _span_cost(span, attributes, usage["is_byok"])
    if cost is not None:
        usage["cost"] = cost
    if usage["is_byok"]:
        upstream = _generation_cost(attributes, "byok_usage_inference")
        usage["cost_details"] = {
            "upstream_inference_cost": upstream
            if upstream is not None
            else _generation_cost(attributes, "usage_upstream")
        }
    return usage


def _span_cost(
    span: Mapping[str, Any], attributes: Mapping[str, object], is_byok: bool
) -> object | None:
    """Return the charge, or None where the span has none.

    `total_cost` is list price x tokens: it is no charge for a generation that failed, and for BYOK
    it is what the provider bills, not OpenRouter's fee.
    """
    charged = _generation_cost(attributes, "usage")
    if charged is not None:
        return charged
    has_failed = json_object(span.get("status")).get("code") in (_SPAN_FAILED, str(_SPAN_FAILED))
    return None if has_failed or is_byok else attributes.get("gen_ai.usage.total_cost")


def _generation_cost(attributes: Mapping[str, object], name: str) -> object:
    for prefix in ("trace.metadata", "span.metadata"):
        found = attributes.get(f"{prefix}.{_GENERATION_COST}.{name}")
        if found is not None:
            return found
    return None


def _is_byok(attributes: Mapping[str, Any]) -> bool:
    reported = _generation_cost(attributes, "is_byok")
    if reported is not None:
        return reported in (True, "true")
    responses = attributes.get("trace.metadata.provider_responses")
    if not isinstance(responses, str):
        return False
    try:
        answers = loads(responses[:65_536])
    except (JSONDecodeError, RecursionError):
        return False
    return any(answer.get("is_byok") is True for answer in _objects(answers))


def _timed_cache_writes(attributes: Mapping[str, Any]) -> int:
    names = ("cache_write_5m", "cache_write_1h")
    found = (attributes.get(f"gen_ai.usage.input_tokens.{name}") for name in names)
    return sum(count for count in map(_whole, found) if count is not None)


def _metadata(attributes: Mapping[str, Any], name: str) -> object:
    return attributes.get(f"trace.metadata.{name}")


def _nanoseconds(span: Mapping[str, Any], name: str) -> datetime | None:
    since_1970 = _whole(span.get(name))
    try:
        return datetime.fromtimestamp(since_1970 // 10**6 / 1000, UTC) if since_1970 else None
    except (ValueError, OverflowError, OSError):
        return None


def _latency_ms(span: Mapping[str, Any]) -> int | None:
    start, end = _whole(span.get("startTimeUnixNano")), _whole(span.get("endTimeUnixNano"))
    return (
        (end - start) // 10**6 if start is not None and end is not None and start <= end else None
    )


def _whole(value: object) -> int | None:
    """Return a non-negative integer of at most 64 bits, from a number or a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = int(value[:20]) if isinstance(value, str) else int(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < 2**63 else None
