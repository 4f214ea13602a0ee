"""Reading the bodies that Open WebUI hands to a filter; nothing in a body can make it fail."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from shared.core.ids import clean_label, is_generation_id
from shared.core.money import parse_usd
from shared.errors import UnusableCost

# Where the stream hook leaves the ids it has put, for the Pipelines outlet to read: merge_usage
# of Open WebUI keeps a key it does not know.
LEDGER_KEY = "usage_ledger"
LEDGER_IDS_MAX = 200
# Where the Function leaves in its state of an answer whose key pays for it.
KEY_HASH = "key_hash"
_DELTA_CONTENT = ("content", "reasoning", "reasoning_content", "tool_calls", "images", "audio")
_RESPONSE_NAMES = ("id", "model", "provider", "service_tier", "usage")
_FINISHED = {"response.completed": "stop", "response.failed": "error"}
_TEXT_ITEMS = ("message", "reasoning")
_TAGS_MAX = 32
# The longest are channel:<uuid>, 44; two of them and a total of tokens must fit a request_id.
_OPENWEBUI_ID_MAX = 68
# Seconds since 1970 from 2001 to 2286: anything else is no time of a message.
_MESSAGE_TIME_MIN, _MESSAGE_TIME_MAX = 10**9, 10**10


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """What Open WebUI knows of a model; prices are US dollars per token."""

    model_id: str
    base_model_id: str | None
    is_openrouter: bool
    is_arena: bool
    tags: frozenset[str]
    prompt_price: Decimal | None
    completion_price: Decimal | None


def json_object(value: object) -> dict[str, Any]:
    """Return the value when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def short_text(value: object, longest: int = 128) -> str:
    """Return the value when it is a short text, else an empty one."""
    return value if isinstance(value, str) and len(value) <= longest else ""


def openwebui_id(value: object) -> str:
    """Return a chat or message id, empty when it is none: a turn is named by the two of them."""
    found = short_text(value, _OPENWEBUI_ID_MAX)
    return found if found.isprintable() and not found.endswith("\\") else ""


def read_model_record(raw: object) -> ModelRecord | None:
    """Read the model record of an inlet; None when there is none.

    OpenRouter's records carry pricing, canonical_slug and top_provider; a preset or an arena has
    none of them, a preset names its base model. `owned_by` is the same for every connection.
    """
    record = json_object(raw)
    model_id = short_text(record.get("id"))
    if not model_id:
        return None
    pricing = json_object(record.get("pricing"))
    return ModelRecord(
        model_id=model_id,
        base_model_id=short_text(json_object(record.get("info")).get("base_model_id")) or None,
        is_openrouter=bool(pricing)
        and bool(short_text(record.get("canonical_slug")))
        and isinstance(record.get("top_provider"), dict),
        is_arena=record.get("owned_by") == "arena" or record.get("arena") is True,
        tags=_connection_tags(record.get("tags")),
        prompt_price=_price(pricing.get("prompt")),
        completion_price=_price(pricing.get("completion")),
    )


def _connection_tags(raw: object) -> frozenset[str]:
    tags = raw[:_TAGS_MAX] if isinstance(raw, list) else []
    return frozenset(short_text(json_object(tag).get("name")) for tag in tags) - {""}


def _price(raw: object) -> Decimal | None:
    try:
        return parse_usd(raw)
    except UnusableCost:
        return None


def openrouter_model(model_id: str) -> str:
    """Return the model without the prefix that a connection may put before the author's name.

    Open WebUI writes `<prefix>.<author>/<model>`; authors of OpenRouter have no dot.
    """
    author, slash, rest = model_id.partition("/")
    return f"{author.rpartition('.')[2]}/{rest}" if slash else model_id


def answer_message(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the message an outlet is about, empty when the body has none.

    It is the last one; the earlier ones carry their own usage again in every turn.
    """
    messages = body.get("messages")
    answer = json_object(messages[-1]) if isinstance(messages, list) and messages else {}
    is_answer = answer.get("role") == "assistant" and short_text(answer.get("id"))
    return answer if is_answer and answer.get("id") == body.get("id") else {}


def has_openrouter_usage(usage: Mapping[str, Any]) -> bool:
    """Tell whether a usage object was written by OpenRouter: no other vendor sends the charge.

    A `cost` that is an object is another vendor's.
    """
    if "is_byok" in usage or isinstance(usage.get("cost_details"), dict):
        return True
    return "cost" in usage and not isinstance(usage["cost"], dict)


def generation_chunk(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event of a stream in the shape of a chunk, whichever API its connection speaks.

    The Responses API sends a generation as a whole: when it begins, and with its usage in the end.
    The usage object is the event's own.
    """
    response = event.get("response")
    if not isinstance(response, dict) or not is_response_event(event):
        return event
    reason = json_object(response.get("incomplete_details")).get("reason")
    ended = {"finish_reason": reason or _FINISHED.get(event["type"])}
    return {**{name: response.get(name) for name in _RESPONSE_NAMES}, "choices": [ended]}


def is_response_event(event: Mapping[str, Any]) -> bool:
    """Tell whether this is an event of the Responses API."""
    return short_text(event.get("type")).startswith("response.")


def is_openrouter_chunk(chunk: Mapping[str, Any]) -> bool:
    """Tell whether a chunk of a stream came from OpenRouter, whatever stands in front of it."""
    if not is_generation_id(chunk.get("id")):
        return False
    return bool(short_text(chunk.get("provider"))) or has_openrouter_usage(
        json_object(chunk.get("usage"))
    )


def is_openrouter_generation(chunk: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Tell whether a chunk came from OpenRouter: it shows it, or the record of its model does."""
    if is_openrouter_chunk(chunk):
        return True
    if not is_generation_id(chunk.get("id")):
        return False
    record = read_model_record(metadata.get("model"))
    return record is not None and record.is_openrouter


def is_running_total(chunk: Mapping[str, Any]) -> bool:
    """Tell whether the usage of this chunk may still grow: the chunk carries part of the answer."""
    choices = chunk.get("choices")
    first = json_object(choices[0]) if isinstance(choices, list) and choices else {}
    delta = json_object(first.get("delta"))
    return any(delta.get(name) for name in _DELTA_CONTENT)


def chunk_finish_reason(chunk: Mapping[str, Any]) -> str | None:
    """Return why the generation ended, None while it goes on."""
    choices = chunk.get("choices")
    first = json_object(choices[0]) if isinstance(choices, list) and choices else {}
    return short_text(first.get("finish_reason")) or None


def is_one_text(message: Mapping[str, Any]) -> bool:
    """Tell whether an answer is known to be text alone, so that no tool asked for a second turn."""
    output = message.get("output")
    items = output if isinstance(output, list) else []
    return bool(items) and all(json_object(item).get("type") in _TEXT_ITEMS for item in items)


def ledger_ids(usage: Mapping[str, Any]) -> list[str]:
    """Return the generation ids that a Function's stream hook left in a usage object."""
    ids = usage.get(LEDGER_KEY)
    listed = ids[:LEDGER_IDS_MAX] if isinstance(ids, list) else []
    return [found for found in listed if is_generation_id(found)]


def answer_key_hash(metadata: Mapping[str, Any]) -> str:
    """Return the hash of the key that a Function left with an answer, empty when there is none."""
    return short_text(json_object(metadata.get(LEDGER_KEY)).get(KEY_HASH), 8)


def message_time(message: Mapping[str, Any]) -> datetime | None:
    """Return the time of a message; temporary, channel and API messages have none."""
    seconds = message.get("timestamp")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    if not _MESSAGE_TIME_MIN <= seconds <= _MESSAGE_TIME_MAX:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def host_user_id(user: object) -> str:
    """Return the id of the user a host passes beside the body, empty when there is none."""
    return clean_label(json_object(user).get("id"), "")
