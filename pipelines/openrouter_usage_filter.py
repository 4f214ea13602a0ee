"""
title: OpenRouter usage ledger
author: usage-ledger
version: 0.1.0
license: MIT
description: Books every dollar OpenRouter bills to a person, a model and a task, exactly once.

One file for both hosts of Open WebUI: a Pipelines filter (class Pipeline) and a Function filter
(class Filter). It needs no package and no network to load. Generated from pipelines/src and
shared by `make bundle`; edit those, not this.
"""

# Saved in Open WebUI's editor the file stays as it was shipped: its formatter leaves it alone.
# fmt: off

import asyncio
import atexit
import logging
import os
import re
import secrets
import sqlite3
import stat
import sys
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from hashlib import blake2b, sha256
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from itertools import count
from json import JSONEncoder, dumps, loads
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, Self, TypeVar, get_args
from urllib.parse import urlsplit
from weakref import finalize

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import from_json

# --------------------------------------------------------------------------------------------------
# shared/errors.py
#
# Every error of the usage ledger: the class is the decision, the text is for a person.
#
# UsageError
#   ConfigError             a setting is wrong            -> sidecar: refuse to start
#   InvalidEvent            input cannot become an event  -> refuse, count by reason
#     UnusableCost          the amount is no money        -> book as pending, count
#   SpoolError              the local disk has trouble    -> count, log
#     SpoolFull             the size limit is reached     -> refuse, count
#     SpoolTooNew           written by a later version    -> refuse with a sentence
#   DeliveryError           a batch was not taken
#     Unavailable           network, timeout, 408/429/5xx -> keep, back off
#       StoreFault          a bare 500                    -> the same; bisect if others pass
#     Misconfigured         401/403/404 ...               -> keep, probe slowly, tell the admin
#     BatchRefused          400/422                       -> bisect; a single line -> dead letter
#     TooLarge              413                           -> halve
#   CircuitOpen             not attempted                 -> keep
#   ProjectionError         a day could not be projected  -> the old summary stays
#     WouldShrink           fewer events than known       -> refuse until a person says why
#   MigrationError          an import cannot go on        -> stop before anything changes, say why
#     RollbackRefused       it cannot be undone exactly   -> leave everything as it is
# --------------------------------------------------------------------------------------------------


class UsageError(Exception):
    """Root of all errors of this project."""


class InvalidEvent(UsageError):
    """Input that cannot become an event.

    `reason` is one word for counters, `field` and `value` name the culprit. The value is cut to 80
    characters; fields that may hold text of a chat are never passed as value.
    """

    def __init__(self, reason: str, field: str, value: object) -> None:
        self.reason = reason
        self.field = field
        super().__init__(f"{field}: {reason} (got {str(value)[:80]!r})")


class UnusableCost(InvalidEvent):
    """An amount that is no money: null, negative, NaN, infinite or beyond 64 bits of pico-USD."""


class SpoolError(UsageError):
    """The durable queue on local disk cannot be read or written."""


class SpoolFull(SpoolError):
    """The spool has reached its size limit and refuses new rows."""


class SpoolTooNew(SpoolError):
    """The spool file was written by a later version whose schema this one does not know."""


class DeliveryError(UsageError):
    """A batch was not taken by the event store."""


class Unavailable(DeliveryError):
    """The store did not answer or asked to come back later (timeout, 408, 425, 429, 5xx)."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class StoreFault(Unavailable):
    """The store failed inside (500): it may be ill, or it may be this batch that makes it fail."""


class Misconfigured(DeliveryError):
    """The store answers, but not to us as we are set up (401, 403, 404, a proxy's page ...)."""


class BatchRefused(DeliveryError):
    """The store refused the content of a batch (400, 422); some of its lines may be stored."""


class TooLarge(DeliveryError):
    """The batch is larger than the store or a proxy accepts (413)."""


# --------------------------------------------------------------------------------------------------
# shared/core/time.py
#
# Instants as the stores count them: whole milliseconds of UTC since 1970.
# --------------------------------------------------------------------------------------------------


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def to_ms(instant: datetime) -> int:
    """Return the whole milliseconds since 1970, rounded down."""
    return (instant - EPOCH) // MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    return EPOCH + milliseconds * MILLISECOND


# --------------------------------------------------------------------------------------------------
# shared/core/ids.py
#
# Identity: what makes two observations the same event, and two events the same bill.
# --------------------------------------------------------------------------------------------------


REQUEST_ID_MAX = 160
LABEL_MAX_BYTES = 128
NO_KEY = "none"
# OpenRouter: gen-<unix seconds>-<20 alphanumerics>, before 2025 gen-<28 alphanumerics>. An id with
# a colon is a child span of its Broadcast and names no bill of its own.
_GENERATION_ID = re.compile(r"gen-[A-Za-z0-9_-]{1,156}")
_GENERATION_SECONDS = re.compile(r"gen-(\d{10})-")
# The last whole second that 64 bits of nanoseconds hold: 2262-04-11.
_LAST_STORE_SECOND = 2**63 // 10**9 - 1
_CANONICAL_JSON = JSONEncoder(
    ensure_ascii=True, separators=(",", ":"), sort_keys=True, allow_nan=False
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def canonical_json(value: object) -> str:
    """Write JSON that is the same text for the same value on every machine and version."""
    return _CANONICAL_JSON.encode(value)


def digest(value: object, size: int = 16) -> str:
    """Return `size` bytes of blake2b over the canonical JSON of `value`, as hex."""
    return blake2b(canonical_json(value).encode(), digest_size=size).hexdigest()


def is_generation_id(value: object) -> bool:
    """Tell whether this is an OpenRouter generation id that names a bill."""
    return isinstance(value, str) and _GENERATION_ID.fullmatch(value) is not None


def generation_seconds(request_id: str) -> int | None:
    """Return the second, since 1970, that OpenRouter wrote into a generation id."""
    match = _GENERATION_SECONDS.match(request_id)
    return int(match[1]) if match else None


def generation_time(request_id: str) -> datetime | None:
    """Return the second that OpenRouter wrote into a generation id; old ids have none."""
    seconds = generation_seconds(request_id)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def has_store_time(occurred_at: datetime) -> bool:
    """Tell whether a store that counts 64-bit nanoseconds from 1970 can hold this instant."""
    return _is_store_time(to_ms(occurred_at))


def point_time_ns(
    event_id: str, request_id: str, occurred_at: datetime, collision_offset: int = 0
) -> int:
    """Return the nanosecond at which an event stands in a store that keeps one event per instant.

    The event's identity spreads it over the second that its generation id names, else over its
    millisecond; `collision_offset` counts the nanoseconds from there that others have taken, and
    wraps around inside that span, so that no event leaves its second. A time that `has_store_time`
    denies stands in 1970.
    """
    spread = int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "big")
    spread += collision_offset
    milliseconds = to_ms(occurred_at)
    if not _is_store_time(milliseconds):
        milliseconds = 0
    second = milliseconds // 1000
    if generation_seconds(request_id) == second:
        return second * 10**9 + spread % 10**9
    return milliseconds * 10**6 + spread % 10**6


def turn_request_id(chat_id: str, message_id: str, merged_tokens: int | None = None) -> str:
    """Name a whole answer by its message; a continued one also by its merged total of tokens.

    Open WebUI keeps the message id when an answer is continued: alone it would name two bills.
    """
    suffix = "" if merged_tokens is None else f":{merged_tokens}"
    return f"turn:{chat_id}:{message_id}{suffix}"


def part_request_id(chat_id: str, message_id: str, began: datetime) -> str:
    """Name a continuation of an answer whose tokens no hook has seen, by when it began."""
    return f"{turn_request_id(chat_id, message_id)}:@{to_ms(began)}"


def key_hash(api_key: str) -> str:
    """Return the first 8 hex digits of the sha256 of an OpenRouter key."""
    return sha256(api_key.encode()).hexdigest()[:8]


def _is_store_time(milliseconds: int) -> bool:
    return 0 <= milliseconds // 1000 <= _LAST_STORE_SECOND


def clean_request_id(value: object) -> str:
    """Return the identity of a bill as it is. Raises InvalidEvent for an unusable one."""
    if not isinstance(value, str) or not value or value != value.strip():
        raise InvalidEvent("unusable_id", "request_id", value)
    if len(value) > REQUEST_ID_MAX or _UNPRINTABLE.search(value) or value.endswith("\\"):
        raise InvalidEvent("unusable_id", "request_id", value)
    return value


def clean_label(value: object, default: str) -> str:
    """Make a short text fit for grouping in every store: trimmed, printable, at most 128 bytes.

    InfluxDB tags may not be empty, hold a line break or end in a backslash; repairing labels here,
    before any store sees them, keeps the groups of every store the same.
    """
    if not isinstance(value, str):
        return default
    # The same few labels come again with every event; a long text is not worth remembering.
    clean = _clean_text if len(value) <= LABEL_MAX_BYTES else _clean_text.__wrapped__
    return clean(value) or default


@lru_cache(maxsize=8192)
def _clean_text(text: str) -> str:
    text = _UNPRINTABLE.sub(" ", text).strip()
    return text.encode()[:LABEL_MAX_BYTES].decode(errors="ignore").rstrip(" \\")


# --------------------------------------------------------------------------------------------------
# shared/core/money.py
#
# Money: exact US dollars as Decimal, stored and added as integer pico-USD (1e-12 USD).
# --------------------------------------------------------------------------------------------------


_STEP = Decimal(1).scaleb(-12)
# int64 pico-USD, the column type of every store here, ends at 9.2 million USD.
_MAX_PICO = 2**63 - 1
_MAX_USD = Decimal(_MAX_PICO).scaleb(-12)


def parse_usd(raw: object) -> Decimal:
    """Read an amount of US dollars from JSON, exact to 1e-12 (half even).

    Numbers, Decimals and numeric strings are amounts. OpenRouter sends shortest round-trip doubles
    such as `7.4e-7`, and Open WebUI adds them up as floats: `8.400000000000001e-05`; `repr` keeps
    every digit that was sent.

    Raises UnusableCost for null, booleans, negatives, NaN, infinities, text and for more than
    int64 pico-USD.
    """
    if raw is None:
        raise UnusableCost("missing", "cost", raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float | str | Decimal):
        raise UnusableCost("not_a_number", "cost", type(raw).__name__)
    if isinstance(raw, int) and abs(raw) > _MAX_PICO:
        # Before str(): Python refuses to print integers of more than 4300 digits.
        raise UnusableCost("too_large", "cost", f"{raw.bit_length()} bits")
    try:
        amount = Decimal(repr(raw) if isinstance(raw, float) else str(raw).strip())
    except InvalidOperation:
        raise UnusableCost("not_a_number", "cost", type(raw).__name__) from None
    if not amount.is_finite():
        raise UnusableCost("not_finite", "cost", raw)
    if amount < 0:
        raise UnusableCost("negative", "cost", raw)
    if amount > _MAX_USD:
        raise UnusableCost("too_large", "cost", raw)
    return abs(amount.quantize(_STEP, rounding=ROUND_HALF_EVEN))


def to_pico(amount: Decimal) -> int:
    """Convert an amount that `parse_usd` returned to pico-USD."""
    return int(amount.scaleb(12))


def format_usd(amount: Decimal) -> str:
    """Write an amount without exponent and without trailing zeros: `0.00000074`, `0`, `1300`."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


# --------------------------------------------------------------------------------------------------
# shared/capture/openwebui.py
#
# Reading the bodies that Open WebUI hands to a filter; nothing in a body can make it fail.
# --------------------------------------------------------------------------------------------------


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


# --------------------------------------------------------------------------------------------------
# shared/core/event.py
#
# The usage event: one observation of one OpenRouter generation or of one whole answer.
# --------------------------------------------------------------------------------------------------


SCHEMA_VERSION = 1
UNASSIGNED = "unassigned"
CostSource = Literal[
    "response",
    "generation",
    "analytics",
    "webhook",
    "outlet",
    "estimate",
    "manual",
    "legacy",
    "none",
]
CLOCK_SLACK = timedelta(hours=1)
# Fields of an event, and the integers of 1e-12 USD that stores keep of its amounts.
TOKENS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
PICO_FIELDS = {
    "cost_usd": "cost_pico_usd",
    "upstream_cost_usd": "upstream_pico_usd",
    "estimated_cost_usd": "estimated_pico_usd",
}
_USAGE_EXTRA_MAX = 1024


def _to_utc_milliseconds(value: datetime) -> datetime:
    """Keep milliseconds of UTC: the resolution that every store and every host can give back."""
    if value.tzinfo is None:
        raise ValueError("a time needs a zone")
    value = value.astimezone(UTC)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def _label(default: str) -> BeforeValidator:
    return BeforeValidator(lambda value: clean_label(value, default))


def _optional_label(value: object) -> str | None:
    return clean_label(value, "") or None


def _usable_user(value: object) -> str:
    user = clean_label(value, "")
    if not user:
        raise ValueError("an event needs a user")
    return user


def _optional_usd(value: object) -> Decimal | None:
    return None if value is None else parse_usd(value)


def _usable_id(value: object) -> str:
    # pydantic adds the field's name to a ValueError; InvalidEvent is none.
    try:
        return clean_request_id(value)
    except InvalidEvent as error:
        raise ValueError(error.reason) from error


UtcTime = Annotated[datetime, AfterValidator(_to_utc_milliseconds)]
RequestId = Annotated[str, BeforeValidator(_usable_id)]
OptionalLabel = Annotated[str | None, BeforeValidator(_optional_label)]
Usd = Annotated[
    Decimal | None,
    BeforeValidator(_optional_usd),
    PlainSerializer(lambda usd: None if usd is None else format_usd(usd), return_type=str | None),
]
Tokens = Annotated[int, Field(ge=0, le=2**53)]


class UsageEvent(BaseModel):
    """One observation of what OpenRouter billed: who, which model, how many tokens, what it cost.

    Frozen; tokens are counts, amounts US dollars exact to 1e-12, times UTC in milliseconds, fixed
    when the event is born. `cost_usd` None means pending: unknown is never 0. Fields are only ever
    added; a reader of another version ignores what it does not know and fills in what is missing.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    kind: ClassVar[Literal["usage"]] = "usage"
    schema_version: int = SCHEMA_VERSION
    request_id: RequestId
    grain: Literal["generation", "turn"]
    occurred_at: UtcTime
    client_org_id: Annotated[str, _label(UNASSIGNED)] = UNASSIGNED
    external_user: Annotated[str, BeforeValidator(_usable_user)]
    requested_model: Annotated[str, _label("unknown")] = "unknown"
    model: Annotated[str, _label("unknown")]
    provider: Annotated[str, _label("unknown")] = "unknown"
    task: Annotated[str, _label("chat")] = "chat"
    source: Annotated[str, _label("unknown")]
    api_key_hash: Annotated[str, _label("none")] = "none"
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    total_tokens: Tokens = 0
    cached_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    cost_usd: Usd = None
    is_byok: bool = False
    upstream_cost_usd: Usd = None
    estimated_cost_usd: Usd = None
    cost_source: CostSource
    chat_id: OptionalLabel = None
    message_id: OptionalLabel = None
    finish_reason: OptionalLabel = None
    service_tier: OptionalLabel = None
    latency_ms: Annotated[int, Field(ge=0)] | None = None
    usage_extra: Annotated[str, Field(max_length=_USAGE_EXTRA_MAX)] = ""
    # Tokens and money of a request that another event counts; imports of mere sums have such.
    part: Literal[1] | None = None

    @model_validator(mode="after")
    def _money_is_consistent(self) -> Self:
        if self.cost_source in ("none", "estimate"):
            if self.cost_usd is not None:
                raise ValueError(f"cost_source {self.cost_source} cannot carry cost_usd")
        elif self.cost_usd is None:
            raise ValueError(f"cost_source {self.cost_source} needs cost_usd")
        if (self.cost_source == "estimate") != (self.estimated_cost_usd is not None):
            raise ValueError("estimated_cost_usd goes with cost_source estimate, and only with it")
        if self.upstream_cost_usd is not None and not self.is_byok:
            raise ValueError("upstream_cost_usd is money only when is_byok")
        if self.part and not self.is_settled:
            raise ValueError("a part of a request needs cost_usd")
        return self

    @property
    def event_id(self) -> str:
        """Equal for the same observation delivered twice."""
        return digest(
            [
                self.request_id,
                self.source,
                self.cost_source,
                _pico(self.cost_usd),
                _pico(self.upstream_cost_usd),
                self.is_byok,
                self.input_tokens,
                self.output_tokens,
                self.cached_tokens,
                self.cache_write_tokens,
                self.reasoning_tokens,
                self.total_tokens,
                self.model,
            ]
        )

    @property
    def is_settled(self) -> bool:
        return self.cost_usd is not None

    @property
    def requests(self) -> int:
        """1, or 0 if it is a part of a request that another event counts."""
        return 0 if self.part else 1

    def to_json(self) -> str:
        """Write the event as one line of JSON; `event_from_json` reads it back, equal."""
        return self.model_dump_json(exclude_none=True)


def new_event(**fields: Any) -> UsageEvent:
    """Build an event from checked and unchecked values alike.

    Raises InvalidEvent with the first wrong field and its value.
    """
    try:
        return UsageEvent(**fields)
    except ValidationError as error:
        raise _as_invalid_event(error) from None


def event_from_json(text: str | bytes) -> UsageEvent:
    """Read an event written by this or another version.

    Raises InvalidEvent with the first wrong field and its value.
    """
    try:
        return UsageEvent.model_validate_json(text)
    except ValidationError as error:
        raise _as_invalid_event(error) from None


def quarantine_reason(event: UsageEvent, now: datetime, max_cost_usd: Decimal) -> str | None:
    """Return why a person should look at this event before it counts, or None.

    An amount above the limit or a time more than an hour ahead of the clock is kept, not refused:
    the one may be real, the other the fault of our own clock.
    """
    amounts = (event.cost_usd, event.upstream_cost_usd, event.estimated_cost_usd)
    if any(amount is not None and amount > max_cost_usd for amount in amounts):
        return "cost_above_limit"
    if event.occurred_at > now + CLOCK_SLACK and not event.source.startswith("import:"):
        return "in_the_future"
    return None


def _pico(amount: Decimal | None) -> int | None:
    return None if amount is None else to_pico(amount)


def _as_invalid_event(error: ValidationError) -> InvalidEvent:
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "event"
    value = (
        first["input"]
        if isinstance(first["input"], str | int | float)
        else type(first["input"]).__name__
    )
    return InvalidEvent(first["msg"].removeprefix("Value error, "), field, value)


# --------------------------------------------------------------------------------------------------
# pipelines/src/function/answer_state.py
#
# The state of an answer: plain JSON in the one metadata dict that all Function hooks share.
#
# Open WebUI posts this dict to Pipelines with every background task.
# --------------------------------------------------------------------------------------------------


# Keys: the name of the answer that the inlet waits for, and the connection that it goes to.
WAITS_FOR, CONNECTION = "waits_for", "connection"
# id: the generation whose chunks come now; first: its first chunk, until it is booked; total: its
# running total; finish: why it ended; booked: cost and tokens by request_id.
_NEW_STATE: dict[str, Any] = {
    "id": None,
    "first": None,
    "total": None,
    "finish": None,
    "booked": {},
    KEY_HASH: None,
    WAITS_FOR: None,
    CONNECTION: None,
}


def answer_state(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an answer, a new one when there is none or it has another form."""
    state: dict[str, Any] = metadata.get(LEDGER_KEY) or {}
    if not _is_answer_state(state):
        state = metadata[LEDGER_KEY] = dict(_NEW_STATE, booked={})
    return state


def leave_booked(state: dict[str, Any], event: UsageEvent | None) -> None:
    """Leave what the spool took for the other hooks of the answer."""
    if event is None:
        return
    booked = state["booked"]
    cost = None if event.cost_usd is None else format_usd(event.cost_usd)
    booked[event.request_id] = [cost, event.total_tokens]
    while len(booked) > LEDGER_IDS_MAX:
        del booked[next(iter(booked))]


def without_content(chunk: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a chunk that an event needs, without text of the answer."""
    kept = {name: chunk.get(name) for name in ("id", "model", "provider", "service_tier")}
    usage = chunk.get("usage")
    return kept | {"usage": dict(usage)} if isinstance(usage, dict) else kept


def _is_answer_state(state: object) -> bool:
    return (
        isinstance(state, dict)
        and state.keys() >= _NEW_STATE.keys()
        and isinstance(state["booked"], dict)
        and isinstance(state["total"], dict | None)
        and isinstance(state["first"], dict | None)
    )


# --------------------------------------------------------------------------------------------------
# pipelines/src/function/cost_line.py
#
# The line under an answer with its cost, for users who want to see it.
# --------------------------------------------------------------------------------------------------


EventEmitter = Callable[[dict[str, Any]], Awaitable[object]]

_SHOWING: set[asyncio.Future[object]] = set()


def cost_line(amounts: Iterable[tuple[str | None, int]]) -> str:
    """Write the sum of generations: cost in US dollars (None: not known yet), tokens."""
    costs, tokens = zip(*amounts, strict=True)
    known = [Decimal(cost) for cost in costs if cost is not None]
    money = f"{format_usd(sum(known, Decimal(0)))} USD" if known else "cost not known yet"
    if known and len(known) < len(costs):
        money = f"at least {money}"
    return f"{money}, {sum(tokens)} tokens"


def show_cost(metadata: dict[str, Any], user: object, emit: EventEmitter | None) -> None:
    """Show the cost of an answer if the user's own valve asks for it."""
    booked = json_object(metadata.get(LEDGER_KEY)).get("booked")
    wants = getattr(json_object(user).get("valves"), "show_cost", False)
    if emit is not None and booked and wants is True:
        show_status(emit, cost_line(booked.values()))


def show_status(emit: EventEmitter, description: str) -> None:
    """Show a line under the answer without waiting for it."""
    event = {"type": "status", "data": {"description": description, "done": True}}
    showing = asyncio.ensure_future(emit(event))
    # The event loop holds only weak references to tasks.
    _SHOWING.add(showing)
    showing.add_done_callback(_forget_status)


def _forget_status(done: asyncio.Future[object]) -> None:
    _SHOWING.discard(done)
    # An exception that was retrieved is not logged by asyncio: nothing depends on the line.
    _ = done.cancelled() or done.exception()


# --------------------------------------------------------------------------------------------------
# pipelines/src/function/host.py
#
# What this Open WebUI knows of its models and connections: records, and hashes of API keys.
# --------------------------------------------------------------------------------------------------


# A new key is noticed after this long.
_FRESH_SECONDS = 10.0
# Part of the 250 ms of a hook; the host itself reads its connections for every answer.
_WAIT_SECONDS = 0.05
_SETTINGS = ("openai.api_base_urls", "openai.api_keys", "openai.api_configs")


class ConnectionKeys:
    """Hashes of the keys by the index of their connection; no key is kept."""

    def __init__(self) -> None:
        self._hashes: dict[int, str] = {}
        self._read_at: float | None = None
        self._wait_until = 0.0
        self._reading: asyncio.Future[Mapping[str, Any]] | None = None

    async def hash_of(self, index: int | None) -> str:
        """Return the hash of the key of a connection, `none` where the host cannot tell."""
        if index is None:
            return NO_KEY
        if self._reading is None and (
            self._read_at is None or time.monotonic() - self._read_at > _FRESH_SECONDS
        ):
            self._begin_to_read()
        if self._reading is not None:
            await self._take(self._reading)
        return self._hashes.get(index, NO_KEY)

    def _begin_to_read(self) -> None:
        config = getattr(sys.modules.get("open_webui.models.config"), "Config", None)
        if config is not None:
            self._reading = asyncio.ensure_future(config.get_many(*_SETTINGS))
            self._read_at = time.monotonic()
            self._wait_until = self._read_at + _WAIT_SECONDS

    async def _take(self, reading: asyncio.Future[Mapping[str, Any]]) -> None:
        """Take what was read; keep the known hashes when that fails or exceeds its timeout.

        All answers that begin meanwhile wait for the same reading, with one deadline.
        """
        seconds = self._wait_until - time.monotonic()
        if not reading.done() and seconds > 0:
            await asyncio.wait({reading}, timeout=seconds)
        if reading.done() and reading is self._reading:
            self._reading = None
            if not reading.cancelled() and reading.exception() is None:
                self._hashes = _key_hashes(reading.result())


def connection_index(metadata: Mapping[str, Any]) -> int | None:
    """Return the connection of the model that answers, also behind a preset or an arena."""
    record = json_object(metadata.get("model"))
    behind = short_text(metadata.get("selected_model_id")) or short_text(
        json_object(record.get("info")).get("base_model_id")
    )
    if behind:
        record = host_model(behind)
    index = record.get("urlIdx")
    return index if type(index) is int else None


def _key_hashes(settings: Mapping[str, Any]) -> dict[int, str]:
    urls, keys = (_listed(settings.get(name)) for name in _SETTINGS[:2])
    configs = json_object(settings.get(_SETTINGS[2]))
    return {
        index: key_hash(key)
        for index, (url, key) in enumerate(zip(urls, keys, strict=False))
        if isinstance(key, str) and key and _sends_key(configs.get(str(index), configs.get(url)))
    }


def _sends_key(config: object) -> bool:
    return json_object(config).get("auth_type") in (None, "bearer")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def host_model(model_id: str) -> dict[str, object]:
    """Return the host's record of a model, empty where it has none."""
    # A plain dict of the process; `MODELS`, which has presets too, may be one in Redis.
    state = getattr(getattr(sys.modules.get("open_webui.main"), "app", None), "state", None)
    return json_object(json_object(getattr(state, "OPENAI_MODELS", None)).get(model_id))


def host_model_record(model_id: str) -> ModelRecord | None:
    return read_model_record(host_model(model_id))


# --------------------------------------------------------------------------------------------------
# pipelines/src/dedup_keys.py
#
# Dedup keys in the metadata of a request: a second copy of this file books the same rows.
#
# A Pipelines server hands what one plugin returned to the next; Open WebUI never sends metadata on.
# --------------------------------------------------------------------------------------------------


_TASK_KEY = "usage_ledger_task"
_TASK_PREFIX = "task:"
_CONTINUATION_KEY = "usage_ledger_part"
_CONTINUATION_MILLISECONDS_MAX = 60_000


def task_id(metadata: dict[str, Any]) -> str:
    """Give a background task, which has no message, a random id."""
    left = openwebui_id(metadata.get(_TASK_KEY))
    if not left.startswith(_TASK_PREFIX):
        left = f"{_TASK_PREFIX}{secrets.token_hex(12)}"
        metadata[_TASK_KEY] = left
    return left


def continuation_began(metadata: dict[str, Any], now: datetime) -> datetime:
    """Return when a continuation began, to the millisecond: all copies of this file take one."""
    milliseconds = to_ms(now)
    left = metadata.setdefault(_CONTINUATION_KEY, milliseconds)
    if type(left) is int and abs(left - milliseconds) <= _CONTINUATION_MILLISECONDS_MAX:
        milliseconds = left
    return from_ms(milliseconds)


# --------------------------------------------------------------------------------------------------
# pipelines/src/valves.py
#
# The valves: what an administrator sets on the page of the host, one class per host.
# --------------------------------------------------------------------------------------------------


_SECRETS = frozenset({"influxdb_token"})
_SWITCH_WORDS = {"true": "on", "1": "on", "yes": "on", "false": "off", "0": "off", "no": "off"}


def _as_switch(value: object) -> object:
    word = str(value).strip().lower()
    return _SWITCH_WORDS.get(word, word)


Switch = Annotated[Literal["environment", "on", "off"], BeforeValidator(_as_switch)]


class LenientValves(BaseModel):
    """Valves that can always be built: a wrong value takes its default, `problems` names it."""

    _problems: tuple[str, ...] = PrivateAttr(())

    @property
    def problems(self) -> tuple[str, ...]:
        return self._problems

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_is_usable(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # The host builds the valves before every call: raising here would cost the user's answer.
        given = dict(values) if isinstance(values, dict) else {}
        given = {name: value for name, value in given.items() if not _is_empty(value)}
        problems: dict[str, str] = {}
        while True:
            try:
                valves = handler(given)
            except ValidationError as error:
                for found in error.errors(include_url=False, include_input=False):
                    name = str(found["loc"][0]) if found["loc"] else ""
                    if name in given:
                        value = _shown(name, given.pop(name))
                        problems[name] = f"{name}: {found['msg']} (got {value}), default used"
            else:
                valves._problems = tuple(problems[name] for name in sorted(problems))
                return valves


def _shown(name: str, value: object) -> str:
    """Return a wrong value for the administrator, cut short; never a secret."""
    if name in _SECRETS:
        return "a secret"
    is_plain = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 10**39)
    return repr(str(value)[:40]) if is_plain else type(value).__name__


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


class UsageValves(LenientValves):
    """The valves that both hosts have; an empty one means "from the environment".

    Secrets are left out of `repr`.
    """

    priority: int = Field(
        default=0,
        ge=-1_000_000,
        le=1_000_000,
        title="Priority",
        description="Filters run in this order, smallest first.",
    )
    client_org: str = Field(
        default="",
        title="Client organization",
        description="Whom this host is billed to when no assignment says otherwise. "
        "Empty: USAGE_CLIENT_ORG, else `unassigned`.",
    )
    spool_dir: str = Field(
        default="",
        title="Spool folder",
        description="Local folder of the durable queue, never a network drive. "
        "Empty: USAGE_SPOOL_DIR, else a folder beside the host's own data.",
    )
    spool_max_mb: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        title="Spool limit in MB",
        description="When the queue is this large, events are refused and counted. "
        "Empty: USAGE_SPOOL_MAX_MB, else 1024.",
    )
    max_cost_usd: float = Field(
        default=10_000,
        gt=0,
        le=1_000_000,
        title="Quarantine above (USD)",
        description="A single amount above this waits in quarantine until a person looks at it.",
    )
    extra_connections: list[str] = Field(
        default_factory=list,
        title="Other OpenRouter connections",
        description="Tags of connections that bill through OpenRouter although their models do "
        "not show it (a proxy in front, for instance), separated by commas.",
    )
    answer_wait_seconds: int = Field(
        default=3600,
        ge=1,
        le=86_400,
        title="Wait for an answer (s)",
        description="An answer whose end is not shown in this time (stopped, hung up) is listed "
        "as unmetered; should it end later, it is booked and no longer listed (what a program "
        "calls inside Open WebUI stays: let this be longer than an answer can take).",
    )
    user_directory: bool = Field(
        default=True,
        title="Keep names of users",
        description="Store name and e-mail beside the user id, in a directory that can be "
        "erased. Usage events hold the id only.",
    )
    deliver_from: Literal["environment", "host", "sidecar"] = Field(
        default="environment",
        title="Who delivers",
        description="`host`: this process writes to InfluxDB itself; `sidecar`: it only queues, "
        "the sidecar delivers. `environment`: USAGE_DELIVER_FROM, else `host`.",
    )
    influxdb_first_enabled: Switch = Field(
        default="environment",
        title="Write to InfluxDB",
        description="`environment`: INFLUXDB_FIRST_ENABLED, else off. When off, the sidecar "
        "stores the events itself.",
    )
    influxdb_url: str = Field(default="", title="InfluxDB URL", description="Empty: INFLUXDB_URL.")
    influxdb_token: str = Field(
        default="",
        repr=False,
        title="InfluxDB token",
        description="Empty (recommended): INFLUXDB_TOKEN, or the file INFLUXDB_TOKEN_FILE names. "
        "The page of Pipelines shows this in clear to anyone who can reach it.",
        json_schema_extra={"input": {"type": "password"}},
    )
    influxdb_org: str = Field(
        default="", title="InfluxDB organization", description="Empty: INFLUXDB_ORG."
    )
    influxdb_bucket: str = Field(
        default="", title="InfluxDB bucket", description="Empty: INFLUXDB_BUCKET."
    )
    influxdb_measurement: str = Field(
        default="",
        title="InfluxDB measurement",
        description="Empty: INFLUXDB_MEASUREMENT, else `usage_events`.",
    )
    influxdb_write_timeout: int | None = Field(
        default=None,
        ge=1,
        le=600_000,
        title="InfluxDB write timeout (ms)",
        description="Empty: INFLUXDB_WRITE_TIMEOUT, else 2000.",
    )
    influxdb_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=5000,
        title="InfluxDB batch size",
        description="Rows per write. Empty: INFLUXDB_BATCH_SIZE, else 5000.",
    )
    influxdb_flush_interval: int | None = Field(
        default=None,
        ge=1,
        le=600_000,
        title="InfluxDB flush interval (ms)",
        description="Empty: INFLUXDB_FLUSH_INTERVAL, else 1000.",
    )


class FunctionValves(UsageValves):
    """The valves of the Function filter inside Open WebUI."""

    quiet_seconds: int = Field(
        default=120,
        ge=1,
        le=3600,
        title="Quiet time (s)",
        description="An answer without usage this long after its last word (stopped, broken off) "
        "is booked as pending.",
    )


class FunctionUserValves(LenientValves):
    """What each user may set for the Function filter."""

    show_cost: bool = Field(
        default=False,
        title="Show what an answer cost",
        description="A line under each answer with its cost at OpenRouter and its tokens.",
    )


class PipelineValves(UsageValves):
    """The valves of the filter in a Pipelines server; saving replaces the whole set."""

    pipelines: list[str] = Field(
        default_factory=lambda: ["*"],
        title="Models",
        description="`*` for all models, or exact model ids separated by commas. Takes effect "
        "when Open WebUI loads its model list again.",
    )
    add_user: bool = Field(
        default=True,
        title="Tell OpenRouter the user id",
        description="Adds `user` to requests to OpenRouter models, background tasks included, "
        "unless the caller sent one: OpenRouter's own records then tell people apart.",
    )
    add_session_id: bool = Field(
        default=False,
        title="Tell OpenRouter the chat id",
        description="Adds `session_id`. It makes OpenRouter keep to one provider, which changes "
        "routing and so cost.",
    )
    add_trace: bool = Field(
        default=False,
        title="Send chat, message and task along",
        description="Adds `trace`, so that OpenRouter's webhook can name them.",
    )


# --------------------------------------------------------------------------------------------------
# shared/core/rows.py
#
# What travels through a spool: usage events and the three kinds of rows beside them.
# --------------------------------------------------------------------------------------------------


class _SideRow(BaseModel):
    """A row beside the usage events; never money."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    schema_version: int = 1

    def to_json(self) -> str:
        return self.model_dump_json(exclude_none=True)


def _side_row_label(value: object) -> str:
    return clean_label(value, "unknown")


Label = Annotated[str, BeforeValidator(_side_row_label)]


class UnmeteredRow(_SideRow):
    """A generation that was made and whose cost no hook shows.

    `request_id` is `task:<random>` for a background task, and the `turn:` id of the answer for an
    inlet whose outlet never came; an event of that answer cancels the row.
    """

    kind: ClassVar[Literal["unmetered"]] = "unmetered"
    request_id: RequestId
    occurred_at: UtcTime
    client_org_id: Label = UNASSIGNED
    external_user: Label
    model: Label
    task: Label
    chat_id: OptionalLabel = None
    message_id: OptionalLabel = None

    @property
    def event_id(self) -> str:
        return digest(["unmetered", self.request_id])


class HostRow(_SideRow):
    """The heartbeat of a process that captures or delivers; the newest one is its status.

    `counters` are totals since the process began; times are UTC, latencies milliseconds.
    """

    kind: ClassVar[Literal["host"]] = "host"
    host_id: Label
    occurred_at: UtcTime
    host_kind: Literal["function", "pipeline", "sidecar"]
    version: Label
    started_at: UtcTime
    delivery_state: Label = "idle"
    breaker: Label = "closed"
    message: Label = "ok"
    queued: Annotated[int, Field(ge=0)] = 0
    dead_letters: Annotated[int, Field(ge=0)] = 0
    oldest_age_seconds: Annotated[float, Field(ge=0)] = 0.0
    hook_p50_ms: float | None = None
    hook_p99_ms: float | None = None
    write_p50_ms: float | None = None
    write_p99_ms: float | None = None
    counters: dict[str, int] = Field(default_factory=dict)

    @property
    def event_id(self) -> str:
        return digest(["host", self.host_id, self.occurred_at.isoformat()])


class UserRow(_SideRow):
    """The name behind a user id: kept apart, so that it can be erased and events stay nameless."""

    kind: ClassVar[Literal["user"]] = "user"
    user_id: Label
    occurred_at: UtcTime
    name: OptionalLabel = None
    email: OptionalLabel = None

    @property
    def event_id(self) -> str:
        """Equal for the same name of the same user on one day of UTC.

        Another day is another row: a user may return to an earlier name.
        """
        day = self.occurred_at.date().isoformat()
        return digest(["user", self.user_id, self.name, self.email, day])


Row = UsageEvent | UnmeteredRow | HostRow | UserRow
RowKind = Literal["usage", "unmetered", "host", "user"]

_SIDE_ROWS: dict[str, type[UnmeteredRow] | type[HostRow] | type[UserRow]] = {
    "unmetered": UnmeteredRow,
    "host": HostRow,
    "user": UserRow,
}


def row_from_json(kind: str, text: str) -> Row:
    """Read a row of a spool. Raises InvalidEvent when it is damaged or of an unknown kind."""
    if kind == "usage":
        return event_from_json(text)
    if kind not in _SIDE_ROWS:
        raise InvalidEvent("unknown_kind", "kind", kind)
    try:
        return _SIDE_ROWS[kind].model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidEvent(first["msg"], ".".join(map(str, first["loc"])), "...") from None


# --------------------------------------------------------------------------------------------------
# shared/spool/port.py
#
# The port of the spool: what delivery asks of a durable queue.
# --------------------------------------------------------------------------------------------------


PutOutcome = Literal["queued", "duplicate", "refused", "quarantined"]


@dataclass(frozen=True)
class SpooledRow:
    """A row that waits in a spool; its time in InfluxDB is fixed when it is queued."""

    row_id: int
    kind: RowKind
    event_id: str
    json: str
    point_time_ns: int
    attempts: int


@dataclass(frozen=True, kw_only=True)
class SpoolStatus:
    """Counts of a spool: rows by state, bytes, and everything refused or dropped, by reason."""

    queued: int
    dead_letters: int
    quarantined: int
    open_generations: int
    oldest_queued_at: datetime | None
    size_bytes: int
    size_limit_bytes: int
    counters: Mapping[str, int]


class Spool(Protocol):
    """What delivery asks of a durable queue; methods may be called from any thread."""

    def take(self, limit: int, after_row_id: int = 0) -> list[SpooledRow]:
        """Return the oldest queued rows, at most `limit`, without changing them."""

    def acknowledge(
        self,
        accepted: Sequence[int] = (),
        rejected: Sequence[tuple[int, str]] = (),
        kept: Sequence[int] = (),
    ) -> None:
        """End a delivery: accepted rows are done, rejected ones dead letters, kept ones wait."""

    def lease(self, owner: str, seconds: float) -> bool:
        """Become or stay the one that delivers this spool; False while another one is."""

    def release(self, owner: str) -> None:
        """Give up the lease, if it is this owner's."""


# --------------------------------------------------------------------------------------------------
# shared/delivery/port.py
#
# The seam to where rows are delivered.
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WriteResult:
    """How a batch ended, by position in it. A position in no list was not looked at and is kept."""

    accepted: list[int] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)


class EventSink(Protocol):
    """Where rows are delivered."""

    name: str

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        """Return the same rows, with the work done that needs no store, for `write` to take.

        From any thread, also while another batch is written.
        """

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write a batch of any kinds; writing a row again changes nothing.

        Raises DeliveryError when the batch as a whole was not taken.
        """


# --------------------------------------------------------------------------------------------------
# shared/delivery/retry.py
#
# When to try again: waits of one delivery, and what a server asks for.
# --------------------------------------------------------------------------------------------------


RETRY_AFTER_MAX_SECONDS = 600.0


@dataclass(frozen=True)
class RetrySchedule:
    """The waits between the attempts of a delivery, each stretched by up to `jitter` of itself."""

    waits_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    jitter: float = 0.25

    @property
    def attempts(self) -> int:
        return len(self.waits_seconds) + 1

    @property
    def wait_bounds(self) -> list[tuple[float, float]]:
        """The shortest and the longest of each wait."""
        return [(seconds, seconds * (1 + self.jitter)) for seconds in self.waits_seconds]

    def covers(self, retry_after_seconds: float | None) -> bool:
        """Return whether the server's wait fits into a delivery; a longer one ends the delivery."""
        return (retry_after_seconds or 0.0) <= max(self.waits_seconds, default=0.0)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header (seconds or a date, RFC 9110): seconds, at most ten minutes.

    None for a header that is missing or says nothing usable.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until_date(value, now)
    if seconds != seconds:  # NaN
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)


def _seconds_until_date(value: str, now: datetime) -> float:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return float("nan")
    if date.tzinfo is None:  # "-0000" means UTC without saying so
        date = date.replace(tzinfo=UTC)
    return (date - now).total_seconds()


# --------------------------------------------------------------------------------------------------
# shared/event_store/influx/answers.py
#
# What an event store's HTTP answer means: every status leads to one decision.
# --------------------------------------------------------------------------------------------------


# The store speaks of our lines, not of us: 1.x and 2.x say "unable to parse", Cloud Serverless
# "failed to parse". Only with a 400: 1.8 is also "unable to parse authentication credentials".
_UNREADABLE_LINES = re.compile("(unable|failed) to parse", re.IGNORECASE)
# 2.0 said so with a 500, and with any status some of the lines may be stored.
_PARTIAL_WRITE = re.compile("partial write", re.IGNORECASE)
_COMES_BACK = frozenset({408, 425, 429, 499})
# These two are no passing trouble: the address belongs to something that cannot take our writes.
_NEVER_PASSES = frozenset({501, 505})
_ANSWER_WORDS_MAX = 400


def write_error(
    status: int, body: str, retry_after_seconds: float | None = None
) -> DeliveryError | None:
    """Return the error that an answer to a write stands for, or None when everything was taken."""
    are_unreadable = status == 400 and _UNREADABLE_LINES.search(body)
    if status == 422 or are_unreadable or _PARTIAL_WRITE.search(body):
        return BatchRefused(_answer_words(status, body))
    if 200 <= status <= 299:
        return Misconfigured(_answer_words(status, body)) if body.strip() else None
    return _answer_decision(status, body, retry_after_seconds)


def words_in(body: str) -> str:
    """Return what a body says to a person: a JSON error's message, else the text, shortened."""
    try:
        content = loads(body)
    except ValueError:
        content = None
    if isinstance(content, dict):
        said = [content.get("message") or content.get("error")]
        said += [str(content["data"])] if content.get("data") else []  # version 3 lists the lines
        body = " ".join(part for part in said if isinstance(part, str)) or body
    return " ".join(body.split())[:_ANSWER_WORDS_MAX]


def _answer_decision(status: int, body: str, retry_after_seconds: float | None) -> DeliveryError:
    words = _answer_words(status, body)
    if status == 413:
        return TooLarge(words)
    if status == 500 and retry_after_seconds is None:
        return StoreFault(words)
    if status in _COMES_BACK or (status >= 500 and status not in _NEVER_PASSES):
        return Unavailable(words, retry_after_seconds)
    return Misconfigured(words)


def _answer_words(status: int, body: str) -> str:
    said = words_in(body)
    return f"{status}: {said}" if said else f"{status} without a word"


# --------------------------------------------------------------------------------------------------
# shared/event_store/influx/line_protocol.py
#
# Line protocol: how rows are written down for InfluxDB, and which columns hold them.
# --------------------------------------------------------------------------------------------------


MEASUREMENTS = {"unmetered": "usage_unmetered", "host": "usage_hosts", "user": "usage_users"}
# Tags make a series each: every one is always there, in the order in which the server sorts them,
# and the lists are never extended. What is unique to an event is a field.
TAGS: Mapping[str, tuple[str, ...]] = {
    "usage": ("api_key_hash", "client_org_id", "external_user", "model", "source", "task"),
    "unmetered": ("client_org_id", "external_user", "model", "task"),
    "host": ("host_id", "host_kind"),
    "user": ("user_id",),
}
# Fields have one type for ever: a point with one field of another type is refused as a whole.
INTEGER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "usage": ("schema_version", *TOKENS),
    "unmetered": ("schema_version",),
    "host": ("schema_version", "queued", "dead_letters"),
    "user": ("schema_version",),
}
# Those that a row may do without are written where there is a value.
RARE_INTEGER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "usage": ("latency_ms", "part"),
    "unmetered": (),
    "host": (),
    "user": (),
}
FLOAT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "usage": (),
    "unmetered": (),
    "host": ("oldest_age_seconds", "hook_p50_ms", "hook_p99_ms", "write_p50_ms", "write_p99_ms"),
    "user": (),
}
# Strings that are the same for many rows of a kind, and those that are a row's own.
LABEL_FIELDS: Mapping[str, tuple[str, ...]] = {
    "usage": ("grain", "requested_model", "provider", "cost_source"),
    "unmetered": (),
    "host": (),
    "user": (),
}
STRING_FIELDS: Mapping[str, tuple[str, ...]] = {
    "usage": (
        "request_id",
        "chat_id",
        "message_id",
        "finish_reason",
        "service_tier",
        "usage_extra",
    ),
    "unmetered": ("request_id", "chat_id", "message_id"),
    "host": ("started_at", "version", "delivery_state", "breaker", "message"),
    "user": ("name", "email"),
}
_LABELS = {kind: (*TAGS[kind], *LABEL_FIELDS[kind]) for kind in TAGS}
_INTEGERS = {
    kind: ",".join([f"{name}={{:d}}i" for name in names]) for kind, names in INTEGER_FIELDS.items()
}


def render_line(kind: str, text: str, point_time_ns: int, measurement: str) -> str:
    """Write the row of a spool as one line that is the same, byte for byte, whenever it is written.

    `measurement` is where usage events go. Raises InvalidEvent when the row cannot be read.
    """
    name = measurement if kind == "usage" else MEASUREMENTS.get(kind, "")
    try:
        return _render(kind, from_json(text), point_time_ns, name)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError):
        # An older version wrote it or it is damaged: the model fills in what is missing or refuses.
        row = row_from_json(kind, text)
    return _render(kind, row.model_dump(mode="json", exclude_none=True), point_time_ns, name)


def derived_milliseconds(point_time_ns: int, request_id: str) -> int:
    """Return the instant that a line's time stands for, in milliseconds since 1970.

    A line's time holds the identity of its event below the second (ids that name one) or the
    millisecond; the few events that happened at another instant carry it as a field.
    """
    second = point_time_ns // 10**9
    return second * 1000 if generation_seconds(request_id) == second else point_time_ns // 10**6


def escape_key(text: str) -> str:
    """Escape the name of a measurement."""
    return text.replace(",", "\\,").replace(" ", "\\ ")


def _render(kind: str, row: Mapping[str, Any], point_time_ns: int, measurement: str) -> str:
    tags, labels = _write_labels(kind, tuple([row[name] for name in _LABELS[kind]]))
    fields = [_INTEGERS[kind].format(*[row[name] for name in INTEGER_FIELDS[kind]]), *labels]
    fields += [f"{name}={row[name]:d}i" for name in RARE_INTEGER_FIELDS[kind] if name in row]
    fields += [f"{name}={float(row[name])!r}" for name in FLOAT_FIELDS[kind] if row.get(name)]
    fields += [f"{name}={_quote_field(row[name])}" for name in STRING_FIELDS[kind] if row.get(name)]
    if kind == "usage":
        fields += _amount_fields(row)
    elif kind == "host":
        fields.append(f"counters={_quote_field(canonical_json(row['counters']))}")
    at = to_ms(datetime.fromisoformat(row["occurred_at"]))
    if at != derived_milliseconds(point_time_ns, row.get("request_id", "")):
        fields.append(f"occurred_at_ms={at}i")
    return f"{escape_key(measurement)},{tags} {','.join(fields)} {point_time_ns}"


def _amount_fields(row: Mapping[str, Any]) -> list[str]:
    fields = ["is_byok=true" if row["is_byok"] else "is_byok=false"]
    # Absent, never 0, when there is no amount.
    for name, field in PICO_FIELDS.items():
        if name in row:
            fields.append(f"{field}={int(Decimal(row[name]).scaleb(12))}i")
    if "cost_usd" in row:
        fields.append(f"cost_usd={row['cost_usd']}")  # a float, for charts alone
    return fields


@lru_cache(maxsize=8192)
def _write_labels(kind: str, values: tuple[str, ...]) -> tuple[str, list[str]]:
    """Write the tags of a row and the fields that are labels too: the same few come again."""
    count = len(TAGS[kind])
    tags = [f"{name}={_escape_tag(text)}" for name, text in zip(TAGS[kind], values, strict=False)]
    labels = zip(LABEL_FIELDS[kind], values[count:], strict=True)
    return ",".join(tags), [f"{name}={_quote_field(text)}" for name, text in labels if text]


def _escape_tag(text: str) -> str:
    if not text or text.endswith("\\") or "\n" in text:
        raise InvalidEvent("unusable_tag", "label", text)
    return text.replace(",", "\\,").replace(" ", "\\ ").replace("=", "\\=")


def _quote_field(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --------------------------------------------------------------------------------------------------
# shared/event_store/influx/write.py
#
# Writing to InfluxDB: rows as line protocol, through influxdb-client, one request at a time.
# --------------------------------------------------------------------------------------------------


# The measurement of the system this one replaces; it kept request_id as a tag.
_ORIGINAL_MEASUREMENT = "usage_tracking"
_LOOPBACK_HOSTS = ("localhost", "127.", "::1")
# The write timeout bounds the first byte of an answer; the whole may take as long again.
_ANSWER_PER_TIMEOUT = 2


@dataclass(frozen=True, kw_only=True)
class InfluxSettings:
    """Where InfluxDB is and who we are to it.

    The bucket may be `database/retention-policy`; for 1.x the token is `user:password`. Without a
    read token the other one reads too. The measurement holds the usage events.
    """

    url: str
    token: str = field(repr=False)
    org: str
    bucket: str
    measurement: str = "usage_events"
    write_timeout_ms: int = 2000
    read_token: str = field(default="", repr=False)


class RowsInLines(list[SpooledRow]):
    """Rows and the request that writes them; `result` is how they end if it is taken."""

    def __init__(self, rows: Iterable[SpooledRow], body: bytes, result: WriteResult) -> None:
        super().__init__(rows)
        self.body = body
        self.result = result


class InfluxSink:
    """An EventSink in InfluxDB 1.8, 2.x, Cloud or 3.

    A row written again lands on the same point, byte for byte. Needs influxdb-client on the first
    write only; the connection is made then, and anew in a forked process.
    """

    name = "influxdb"

    def __init__(self, settings: InfluxSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._pid = 0
        self._is_ours = False

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        """Write rows of any kind down as the lines of one request."""
        return self._in_lines(rows)

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write rows of any kind in one request.

        Raises DeliveryError when the answer is no plain acceptance; Misconfigured also for the
        measurement of the original system, where our points would mix with its series.
        """
        request = self._in_lines(rows)
        if request.body:
            self._post(request.body)
        return request.result

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _in_lines(self, rows: Sequence[SpooledRow]) -> RowsInLines:
        if isinstance(rows, RowsInLines):
            return rows
        accepted: list[int] = []
        rejected: list[tuple[int, str]] = []
        lines: list[str] = []
        for position, row in enumerate(rows):
            try:
                lines.append(
                    render_line(row.kind, row.json, row.point_time_ns, self._settings.measurement)
                )
            except InvalidEvent as error:
                rejected.append((position, str(error)))
            else:
                accepted.append(position)
        return RowsInLines(rows, "\n".join(lines).encode(), WriteResult(accepted, rejected))

    def _post(self, body: bytes) -> None:
        client = self._connected()
        if not self._is_ours:
            self._refuse_the_original()
        with _client_errors_mapped():
            from influxdb_client.client.write_api import SYNCHRONOUS

            client.write_api(write_options=SYNCHRONOUS).write(
                self._settings.bucket, self._settings.org, body
            )
            answer = client.api_client.last_response
        if error := write_error(answer.status, answer.data):
            raise error

    def _connected(self) -> Any:
        """Return the client of this process: its sockets must not be shared with a parent's."""
        from influxdb_client.client.influxdb_client import InfluxDBClient

        if self._client is None or self._pid != os.getpid():
            host = host_of(self._settings.url)
            self._pid = os.getpid()
            self._client = InfluxDBClient(
                self._settings.url,
                self._settings.token,
                timeout=self._settings.write_timeout_ms,
                # On the same machine compressing costs more than it saves: 44 ms a batch.
                enable_gzip=not host.startswith(_LOOPBACK_HOSTS),
                org=self._settings.org,
            )
            bound_answers(
                self._client.api_client.rest_client.pool_manager,
                self._settings.write_timeout_ms / 1000 * _ANSWER_PER_TIMEOUT,
            )
        return self._client

    def _refuse_the_original(self) -> None:
        """Refuse a measurement with request_id among its tag keys, once per connection.

        A token that may only write cannot ask; then the original system's own name is refused.
        """
        measurement = self._settings.measurement
        tags = self._tag_keys()
        if "request_id" in tags or (tags == ["?"] and measurement == _ORIGINAL_MEASUREMENT):
            raise Misconfigured(
                f"the measurement {measurement} has request_id as a tag: it is the original "
                "system's. Set INFLUXDB_MEASUREMENT to a new name, such as usage_events, and "
                "bring its history over with the migration tools"
            )
        self._is_ours = True

    def _tag_keys(self) -> list[str]:
        """Return the tag keys of the measurement, or `?` when they cannot be known."""
        database, _, policy = self._settings.bucket.partition("/")
        name = self._settings.measurement.replace("\\", "\\\\").replace('"', '\\"')
        asked = {"db": database, "rp": policy, "q": f'SHOW TAG KEYS FROM "{name}"'}
        try:
            with _client_errors_mapped():
                api = self._connected().api_client
                query = [(key, value) for key, value in asked.items() if value]
                api.call_api("/query", "GET", None, query, {"Accept": "application/json"})
                [answer] = loads(api.last_response.data)["results"]
        except (Misconfigured, ValueError, KeyError, TypeError):
            return ["?"]
        if "error" in answer:
            return ["?"]
        return [row[0] for series in answer.get("series", ()) for row in series["values"]]


def host_of(url: str) -> str:
    """Return the host in an address. Raises Misconfigured when it is none for HTTP."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if not host:
        raise Misconfigured("INFLUXDB_URL is no address such as http://influxdb:8086")
    return host


@contextmanager
def _client_errors_mapped() -> Iterator[None]:
    """Turn whatever influxdb-client and urllib3 raise into the decision it stands for."""
    from influxdb_client.rest import ApiException
    from urllib3.exceptions import HTTPError, LocationValueError, SSLError

    try:
        yield
    except ApiException as error:
        raise _refused_request(error) from error
    except LocationValueError as error:
        raise Misconfigured("INFLUXDB_URL is no address such as http://influxdb:8086") from error
    except SSLError as error:
        raise _tls_error(str(error)) from error
    except UnicodeDecodeError as error:
        raise Misconfigured("the answer is no text: this is not InfluxDB") from error
    except (HTTPError, OSError) as error:
        raise Unavailable(f"no answer from InfluxDB: {error}") from error


def _refused_request(error: Any) -> Exception:
    if not error.status:  # the client wraps what TLS says into an answer with status 0
        return _tls_error(str(error.reason))
    body = (
        error.body if isinstance(error.body, str) else (error.body or b"").decode(errors="replace")
    )
    headers = error.headers or {}
    retry_after = parse_retry_after(headers.get("Retry-After"), datetime.now(UTC))
    return write_error(error.status, body, retry_after) or Unavailable(f"{error.status}")


def _tls_error(words: str) -> Exception:
    """A certificate that is not trusted stays so; everything else about TLS may pass."""
    said = f"TLS to InfluxDB failed: {' '.join(words.split())}"
    return Misconfigured(said) if "certificate" in words.lower() else Unavailable(said)


class ReadsInTime(RawIOBase):
    """What a connection receives; after so many seconds no further read begins."""

    def __init__(self, received: RawIOBase, seconds: float) -> None:
        self._received = received
        self._seconds = seconds
        self._started = monotonic()

    def readable(self) -> bool:
        """Say so to the buffer that reads from here."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Receive what there is. Raises Unavailable when the answer took too long."""
        if monotonic() - self._started > self._seconds:
            raise Unavailable(f"no answer from InfluxDB within {self._seconds:g} s")
        return self._received.readinto(buffer)

    def close(self) -> None:
        """Let go of the connection."""
        self._received.close()
        super().close()


class AnswerInTime(HTTPResponse):
    """An answer that raises Unavailable when status, headers and body are not there in time."""

    def __init__(self, seconds: float, *connection: Any, **request: Any) -> None:
        super().__init__(*connection, **request)
        # Only here every byte passes: the status and each header are read by the line.
        self.fp = BufferedReader(ReadsInTime(self.fp.detach(), seconds))


def bound_answers(manager: Any, seconds: float) -> None:
    """Give every answer to a urllib3 pool manager (1.26 or 2) so many seconds from its request."""
    in_time = staticmethod(partial(AnswerInTime, seconds))

    def bounded(pool: Any) -> Any:
        connection = type("ConnectionInTime", (pool.ConnectionCls,), {"response_class": in_time})
        return type("ConnectionPoolInTime", (pool,), {"ConnectionCls": connection})

    manager.pool_classes_by_scheme = {
        scheme: bounded(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


# --------------------------------------------------------------------------------------------------
# pipelines/src/settings.py
#
# The plugin's settings: valves over environment over defaults, one frozen object.
# --------------------------------------------------------------------------------------------------


# Valve -> environment variable. A token may come from a file whose path NAME_FILE holds.
_VARIABLES = {
    "client_org": "USAGE_CLIENT_ORG",
    "spool_dir": "USAGE_SPOOL_DIR",
    "spool_max_mb": "USAGE_SPOOL_MAX_MB",
    "deliver_from": "USAGE_DELIVER_FROM",
    "influxdb_first_enabled": "INFLUXDB_FIRST_ENABLED",
    "influxdb_url": "INFLUXDB_URL",
    "influxdb_token": "INFLUXDB_TOKEN",
    "influxdb_org": "INFLUXDB_ORG",
    "influxdb_bucket": "INFLUXDB_BUCKET",
    "influxdb_measurement": "INFLUXDB_MEASUREMENT",
    "influxdb_write_timeout": "INFLUXDB_WRITE_TIMEOUT",
    "influxdb_batch_size": "INFLUXDB_BATCH_SIZE",
    "influxdb_flush_interval": "INFLUXDB_FLUSH_INTERVAL",
}
_CLOUD_VALVES = ("influxdb_url", "influxdb_token", "influxdb_org", "influxdb_bucket")
_TOKEN_FILE_MAX = 8192


@dataclass(frozen=True, kw_only=True)
class PluginSettings:
    """`problems` are sentences about values that could not be used.

    `influx` is set when this host delivers; without it the rows wait for the sidecar.
    """

    client_org_id: str
    spool_dir: Path
    spool_max_bytes: int
    max_cost_usd: Decimal
    extra_connections: frozenset[str]
    user_directory: bool
    quiet_seconds: int
    answer_wait_seconds: int
    add_user: bool
    add_session_id: bool
    add_trace: bool
    influx: InfluxSettings | None
    batch_rows: int
    flush_seconds: float
    problems: tuple[str, ...]


def read_settings(
    valves: UsageValves, environment: Mapping[str, str], default_spool_dir: Path
) -> PluginSettings:
    """Merge valves and environment; no value of either makes this fail."""
    problems = list(valves.problems)
    effective = _over_environment(valves, environment, problems)
    return PluginSettings(
        client_org_id=clean_label(effective.client_org, UNASSIGNED),
        spool_dir=Path(effective.spool_dir).expanduser()
        if effective.spool_dir
        else default_spool_dir,
        spool_max_bytes=(effective.spool_max_mb or 1024) * 1_000_000,
        max_cost_usd=parse_usd(effective.max_cost_usd),
        extra_connections=frozenset(tag.strip() for tag in effective.extra_connections),
        user_directory=effective.user_directory,
        quiet_seconds=getattr(effective, "quiet_seconds", 120),
        answer_wait_seconds=effective.answer_wait_seconds,
        add_user=getattr(effective, "add_user", False),
        add_session_id=getattr(effective, "add_session_id", False),
        add_trace=getattr(effective, "add_trace", False),
        influx=_influx(effective),
        batch_rows=effective.influxdb_batch_size or 5000,
        flush_seconds=(effective.influxdb_flush_interval or 1000) / 1000,
        problems=tuple(problems),
    )


def _influx(valves: UsageValves) -> InfluxSettings | None:
    """Return where this host delivers, None unless it should and has an address and a token."""
    delivers = valves.influxdb_first_enabled == "on" and valves.deliver_from != "sidecar"
    if not (delivers and valves.influxdb_url and valves.influxdb_token):
        return None
    return InfluxSettings(
        url=valves.influxdb_url,
        token=valves.influxdb_token,
        org=valves.influxdb_org,
        bucket=valves.influxdb_bucket,
        measurement=valves.influxdb_measurement or "usage_events",
        write_timeout_ms=valves.influxdb_write_timeout or 2000,
    )


def _over_environment(
    valves: UsageValves, environment: Mapping[str, str], problems: list[str]
) -> UsageValves:
    """Fill the empty valves from the environment, checked by the same rules."""
    set_values = {
        name: value
        for name, value in valves.model_dump().items()
        if value not in (None, "", "environment")
    }
    filled = {
        name: _variable(name, environment, problems)
        for name in _VARIABLES
        if name not in set_values
    }
    effective = type(valves)(**{**filled, **set_values})
    problems.extend(
        f"{_VARIABLES.get(problem.split(':')[0], '')} in {problem}"
        for problem in effective.problems
    )
    return effective


def _variable(valve: str, environment: Mapping[str, str], problems: list[str]) -> str | None:
    name = _VARIABLES[valve]
    uses_cloud = environment.get("INFLUXDB_USE_CLOUD", "").strip().lower() in ("1", "true", "yes")
    if uses_cloud and valve in _CLOUD_VALVES:
        name = name.replace("INFLUXDB_", "INFLUXDB_CLOUD_")
    path = environment.get(f"{name}_FILE")
    if valve != "influxdb_token" or not path:
        return environment.get(name)
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(_TOKEN_FILE_MAX).strip()
    except (OSError, ValueError) as error:
        problems.append(f"{name}_FILE: cannot be read ({type(error).__name__})")
        return None


# --------------------------------------------------------------------------------------------------
# shared/capture/inlet.py
#
# The inlet of an answer: what a request shows of the answer to come.
# --------------------------------------------------------------------------------------------------


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


# --------------------------------------------------------------------------------------------------
# shared/capture/usage.py
#
# Reading the usage objects that OpenRouter sends and Open WebUI merges.
# --------------------------------------------------------------------------------------------------


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


# --------------------------------------------------------------------------------------------------
# shared/capture/events.py
#
# From what a hook sees to the event it books: pure decisions, no disk and no clock.
# --------------------------------------------------------------------------------------------------


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


# --------------------------------------------------------------------------------------------------
# pipelines/src/in_flight.py
#
# What has begun and not ended: answers between inlet and outlet, generations between chunks.
# --------------------------------------------------------------------------------------------------


InletKey = tuple[str, str]

INLETS_MAX = 10_000
INLET_LIFETIME = timedelta(hours=1)
# More than one host can have open; what comes beyond only expires without its last tokens.
_GROWING_MAX = 10_000


@dataclass(frozen=True)
class BookedContinuation:
    """The ids a Function left in the outlets of one message, up to this continuation and before."""

    began: datetime
    earlier: frozenset[str] | None
    latest: frozenset[str]


@dataclass(frozen=True)
class MemorySnapshot:
    """What a memory hands to the next one; `silent` are keys of inlets without an outlet."""

    inlets: list[Inlet]
    silent: list[InletKey]
    records: list[ModelRecord]


class InletMemory:
    """Inlets by chat and message, model records by id; bounded, any thread may use it.

    An inlet stays after its outlet, so that a repeated outlet is read in the same way. Inlets
    without an outlet are returned once, by `remember` or `expire`: something was billed there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inlets: OrderedDict[InletKey, Inlet] = OrderedDict()
        self._silent: OrderedDict[InletKey, Inlet] = OrderedDict()
        self._booked: OrderedDict[InletKey, BookedContinuation] = OrderedDict()
        self._totals: OrderedDict[tuple[InletKey, int], datetime] = OrderedDict()
        self._records: OrderedDict[str, ModelRecord] = OrderedDict()

    def remember(self, inlet: Inlet) -> list[Inlet]:
        """Remember an inlet; return those it evicts before their outlet came."""
        key = (inlet.chat_id, inlet.message_id)
        with self._lock:
            self._inlets.pop(key, None)
            evicted = [self._silent.pop(key, None)]
            self._inlets[key] = self._silent[key] = inlet
            while len(self._inlets) > INLETS_MAX:
                oldest, _ = self._inlets.popitem(last=False)
                evicted.append(self._silent.pop(oldest, None))
        return [found for found in evicted if found is not None]

    def complete(self, chat_id: str, message_id: str) -> Inlet | None:
        """Return the inlet of an outlet, which is silent no longer."""
        key = (chat_id, message_id)
        with self._lock:
            self._silent.pop(key, None)
            return self._inlets.get(key)

    def has_new_ids(self, inlet: Inlet, generation_ids: Sequence[str]) -> bool | None:
        """Return whether a Function booked more of this message than before this continuation.

        None when no earlier outlet had any ids: then only their times can tell.
        """
        key = (inlet.chat_id, inlet.message_id)
        with self._lock:
            booked = self._booked.pop(key, None)
            earlier: frozenset[str] | None = None
            if booked is not None:
                # A repeated outlet is compared with the continuation before it.
                earlier = booked.earlier if booked.began == inlet.at else booked.latest
            self._booked[key] = BookedContinuation(inlet.at, earlier, frozenset(generation_ids))
            if len(self._booked) > INLETS_MAX:
                self._booked.popitem(last=False)
        return None if earlier is None else not earlier.issuperset(generation_ids)

    def disambiguate(self, inlet: Inlet, total_tokens: int) -> Inlet:
        """Mark the inlet of a continued answer if an earlier one came to the same total."""
        key = ((inlet.chat_id, inlet.message_id), total_tokens)
        with self._lock:
            began = self._totals.setdefault(key, inlet.at)
            if len(self._totals) > INLETS_MAX:
                self._totals.popitem(last=False)
        return replace(inlet, is_duplicate_total=began != inlet.at)

    def expire(self, now: datetime, wait: timedelta) -> list[Inlet]:
        """Return the inlets without an outlet after `wait`; an hour later forget them.

        An answer that comes after all is until then still read as its inlet said.
        """
        lifetime = wait + INLET_LIFETIME
        with self._lock:
            lost = [key for key, inlet in self._silent.items() if now - inlet.at >= wait]
            old = [key for key, inlet in self._inlets.items() if now - inlet.at >= lifetime]
            for key in old:
                if key not in self._silent:
                    del self._inlets[key]
            return [self._silent.pop(key) for key in lost]

    def export(self) -> MemorySnapshot:
        """Give the inlets away, to the next plugin that waits for these answers."""
        with self._lock:
            snapshot = MemorySnapshot(
                inlets=list(self._inlets.values()),
                silent=list(self._silent),
                records=list(self._records.values()),
            )
            self._inlets.clear()
            self._silent.clear()
        return snapshot

    def restore(self, snapshot: MemorySnapshot) -> None:
        """Go on where another memory ended."""
        silent = set(snapshot.silent)
        for record in snapshot.records[-INLETS_MAX:]:
            self.learn(record)
        with self._lock:
            for inlet in snapshot.inlets[-INLETS_MAX:]:
                key = (inlet.chat_id, inlet.message_id)
                self._inlets[key] = inlet
                if key in silent:
                    self._silent[key] = inlet

    def learn(self, record: ModelRecord) -> None:
        """Remember a model record under exactly its id."""
        with self._lock:
            self._records[record.model_id] = record
            self._records.move_to_end(record.model_id)
            while len(self._records) > INLETS_MAX:
                self._records.popitem(last=False)

    def record(self, model_id: str) -> ModelRecord | None:
        with self._lock:
            return self._records.get(model_id)


class AnswersInFlight:
    """Answers of a Function of which no hook has shown anything yet; a stopped one may never."""

    def __init__(self) -> None:
        self.memory = InletMemory()

    def begin(self, body: dict[str, Any], metadata: dict[str, Any], inlet: Inlet) -> list[Inlet]:
        """Wait for an answer; return the inlets that it evicts, as an earlier one of its message.

        An answer of the API has no message and gets a random name. A second copy of this file
        leaves the wait to the first.
        """
        state = answer_state(metadata)
        if state[WAITS_FOR] is not None:
            return []
        if inlet.is_continued:
            began = continuation_began(json_object(body.get("metadata")), inlet.at)
            inlet = replace(inlet, at=began)
        state[WAITS_FOR] = inlet.message_id or f"api-{secrets.token_hex(12)}"
        return self.memory.remember(replace(inlet, message_id=state[WAITS_FOR]))

    def complete(self, metadata: dict[str, Any]) -> Inlet | None:
        """End the wait, something of the answer was seen; return its inlet."""
        name = openwebui_id(answer_state(metadata)[WAITS_FOR])
        return self.memory.complete(openwebui_id(metadata.get("chat_id")), name) if name else None


def unmetered_rows(
    inlets: Iterable[Inlet], settings: PluginSettings, request_id: str | None = None
) -> list[Row]:
    """Return the rows of answers or of a task, those of foreign models left out."""
    return [
        unmetered_row(inlet, settings.client_org_id, request_id)
        for inlet in inlets
        if inlet.billing != "foreign"
    ]


def expired_rows(memory: InletMemory, settings: PluginSettings, now: datetime) -> list[Row]:
    """Return the unmetered rows of the answers that did not come in time."""
    wait = timedelta(seconds=settings.answer_wait_seconds)
    return unmetered_rows(memory.expire(now, wait), settings)


class OpenGenerations:
    """What the hooks saw of open generations since the session's thread last looked.

    Hooks only add, the thread only takes, each by replacing or filling one object: no lock.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._growing: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}

    def saw(self, generation_id: str) -> None:
        """Note that a chunk of it came; costs well under a microsecond."""
        self._seen.add(generation_id)

    def grew(self, chunk: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Note a running total, with the metadata of its answer."""
        if len(self._growing) < _GROWING_MAX:
            self._growing[str(chunk.get("id"))] = (chunk, metadata)

    def take_seen(self) -> list[str]:
        seen, self._seen = self._seen, set()
        return list(seen)

    def take_grown(self, client_org_id: str, now: datetime) -> list[UsageEvent]:
        """Return pending events with the tokens of the running totals since the last call."""
        growing, self._growing = self._growing, {}
        events = []
        for chunk, metadata in growing.values():
            try:
                event, _ = generation_event(chunk, metadata, client_org_id, now)
            except InvalidEvent:
                continue
            unknown = {"cost_usd": None, "upstream_cost_usd": None, "cost_source": "none"}
            events.append(event.model_copy(update=unknown))
        return events


# --------------------------------------------------------------------------------------------------
# pipelines/src/version.py
#
# The version of the plugin; the flattener writes the first version of CHANGELOG.md here.
# --------------------------------------------------------------------------------------------------


VERSION = "0.1.0"


# --------------------------------------------------------------------------------------------------
# shared/core/clock.py
#
# The clock of the machine, and the port that tests set.
# --------------------------------------------------------------------------------------------------


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the current time in UTC."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


SYSTEM_CLOCK = SystemClock()


# --------------------------------------------------------------------------------------------------
# shared/delivery/batches.py
#
# The batches of a spool: read and acknowledged beside the sending of the one before.
# --------------------------------------------------------------------------------------------------


class BatchSize:
    """How many rows a batch holds: fewer after a failure, until deliveries pass again.

    A store so slow that it never takes a full batch within the timeout takes a small one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = most

    @property
    def is_usual(self) -> bool:
        """Whether batches are full because recent ones passed."""
        return self.rows == self._most

    def shrink(self) -> None:
        """Make the next batch a quarter of this one, but no smaller than a hundred rows."""
        self.rows = max(self.rows // 4, min(self._most, 100))

    def grow(self) -> None:
        """Make the next batch twice as large, up to the usual size."""
        self.rows = min(self.rows * 2, self._most)


class BatchReader:
    """The queue of one spool in batches, the oldest rows first, for one thread that sends them.

    While a batch is sent, a second thread acknowledges the rows of the batch before it and prepares
    the batch after it: a drain was measured at 0.87 and 0.89 of a bare loop's rate so, and at 0.75
    and 0.79 in one thread. What is left to acknowledge is acknowledged before rows are read anew;
    what a crash loses is sent again, which stores take as the same.
    """

    def __init__(self, spool: Spool, sink: EventSink, size: BatchSize, batch_bytes: int) -> None:
        self._spool = spool
        self._sink = sink
        self._size = size
        self._batch_bytes = batch_bytes
        self._accepted: list[int] = []
        self._ready: Sequence[SpooledRow] = ()
        self._is_stale = False
        self._rest: Sequence[SpooledRow] = ()
        self._may_be_more = False

    def next(self) -> Sequence[SpooledRow]:
        """Return the prepared batch, else read the oldest; empty when none is queued."""
        ready, is_stale = self._ready, self._is_stale
        self._ready, self._is_stale = (), False
        if ready and not is_stale:
            return ready
        self.acknowledge()
        self._rest = ()
        return self._read(0)

    @contextmanager
    def ahead_of(self, batch: Sequence[SpooledRow]) -> Iterator[None]:
        """Acknowledge what was accepted and prepare the batch after this one, beside the block.

        Raises SpoolError at the end of the block when that failed.
        """
        if not self._size.is_usual or not (self._rest or self._may_be_more):
            yield
            return
        waiting = tuple(self._accepted)
        beside = _begin_beside(partial(self._acknowledge_and_read, waiting, batch[-1].row_id))
        try:
            yield
        finally:
            self._ready = beside.result()
            del self._accepted[: len(waiting)]

    def note_accepted(self, row_ids: Sequence[int]) -> None:
        """Have these rows acknowledged while the next batch is sent."""
        self._accepted += row_ids

    def read_anew(self) -> None:
        """Drop what was read ahead: rows may have ended out of their turn."""
        self._is_stale = True

    def acknowledge(self) -> None:
        """Acknowledge the accepted rows now."""
        if self._accepted:
            self._spool.acknowledge(accepted=self._accepted)
            self._accepted = []

    def _acknowledge_and_read(
        self, row_ids: Sequence[int], after_row_id: int
    ) -> Sequence[SpooledRow]:
        if row_ids:
            self._spool.acknowledge(accepted=row_ids)
        return self._read(after_row_id)

    def _read(self, after_row_id: int) -> Sequence[SpooledRow]:
        rows = self._rest
        if not rows:
            most = self._size.rows
            rows = self._spool.take(most, after_row_id)
            self._may_be_more = len(rows) >= most
        batch = first_batch(rows, self._batch_bytes)
        self._rest = rows[len(batch) :]
        return self._sink.prepare(batch)


def first_batch(rows: Sequence[SpooledRow], batch_bytes: int) -> list[SpooledRow]:
    """Return rows up to where their JSON grows beyond so many bytes; a larger row is alone."""
    size = 0
    for place, row in enumerate(rows):
        size += len(row.json)
        if place and size > batch_bytes:
            return list(rows[:place])
    return list(rows)


def _begin_beside(
    read: Callable[[], Sequence[SpooledRow]],
) -> Future[Sequence[SpooledRow]]:
    """Begin reading in a thread of its own; here and now where no thread can be had."""
    future: Future[Sequence[SpooledRow]] = Future()
    thread = threading.Thread(
        target=_read_into, args=(future, read), name="usage-delivery-ahead", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:
        _read_into(future, read)
    return future


def _read_into(
    future: Future[Sequence[SpooledRow]], read: Callable[[], Sequence[SpooledRow]]
) -> None:
    try:
        future.set_result(read())
    except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
        future.set_exception(error)


# --------------------------------------------------------------------------------------------------
# shared/delivery/breaker.py
#
# The breaker: a pure state machine that stops asking a store which keeps failing.
# --------------------------------------------------------------------------------------------------


BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """Counts deliveries: opens after failures in a row, tries again later, closes after successes.

    A value; every step returns the next one. What says nothing about the store's health (a refused
    line, a wrong token) is no step.
    """

    failures_to_open: int = 3
    open_for: timedelta = timedelta(seconds=30)
    successes_to_close: int = 2
    failures: int = 0
    successes: int = 0
    opened_at: datetime | None = None

    def state(self, now: datetime) -> BreakerState:
        """Return `closed`, `open`, or `half_open` when a delivery may try whether it is over."""
        if self.opened_at is None:
            return "closed"
        # A clock that was set back must not keep the breaker open for longer than it would be.
        is_waiting = timedelta(0) <= now - self.opened_at < self.open_for
        return "open" if is_waiting else "half_open"

    def allows(self, now: datetime) -> bool:
        """Tell whether a delivery may be attempted."""
        return self.state(now) != "open"

    def after_success(self) -> Self:
        """Return the breaker after a delivery that passed."""
        if self.opened_at is None:
            return replace(self, failures=0)
        if self.successes + 1 < self.successes_to_close:
            return replace(self, successes=self.successes + 1)
        return replace(self, failures=0, successes=0, opened_at=None)

    def after_failure(self, now: datetime) -> Self:
        """Return the breaker after a delivery that failed; one failure reopens a half-open one."""
        if self.opened_at is None and self.failures + 1 < self.failures_to_open:
            return replace(self, failures=self.failures + 1)
        return replace(self, failures=0, successes=0, opened_at=now)


# --------------------------------------------------------------------------------------------------
# shared/delivery/latency.py
#
# Latencies: the newest durations of one kind of work and their percentiles.
# --------------------------------------------------------------------------------------------------


class Latencies:
    """The newest `size` durations in milliseconds; any thread may add or ask."""

    def __init__(self, size: int = 1024) -> None:
        self._size = size
        self._values: list[float] = []
        self._next = 0

    def add(self, milliseconds: float) -> None:
        """Remember a duration, in place of the oldest when there are too many."""
        if len(self._values) < self._size:
            self._values.append(milliseconds)
        else:
            self._values[self._next % self._size] = milliseconds
        self._next += 1

    def percentile(self, percent: float) -> float | None:
        """Return the duration that `percent` of them do not exceed; None without any."""
        values = sorted(self._values)
        if not values:
            return None
        rank = -(-len(values) * percent // 100)
        return values[max(int(rank), 1) - 1]


# --------------------------------------------------------------------------------------------------
# shared/delivery/sender.py
#
# Sending: one batch to one sink, tried again while that may help, halved while that may.
# --------------------------------------------------------------------------------------------------


_REASON_LENGTH_MAX = 500


@dataclass
class BatchOutcome:
    """How the rows of a batch ended so far, by row id; `was_halved` when it had to be cut down."""

    accepted: list[int] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    was_halved: bool = False

    def add(self, rows: Sequence[SpooledRow], result: WriteResult) -> None:
        """Add the result of one write of these rows."""
        self.accepted += [rows[position].row_id for position in result.accepted]
        self.rejected |= {rows[position].row_id: reason for position, reason in result.rejected}

    def waiting(self, rows: Sequence[SpooledRow]) -> list[SpooledRow]:
        """Return those of the rows that have not ended."""
        if len(self.accepted) == len(rows):
            return []
        ended = {*self.accepted, *self.rejected}
        return [row for row in rows if row.row_id not in ended]


class Sender:
    """Sends rows to one sink, from one thread.

    `may_send` is asked before every attempt; after a no, nothing is sent and no row ends. Waits end
    when `stop` is set.
    """

    def __init__(
        self,
        sink: EventSink,
        schedule: RetrySchedule,
        may_send: Callable[[], bool],
        stop: threading.Event,
    ) -> None:
        self._sink = sink
        self._schedule = schedule
        self._may_send = may_send
        self._stop = stop
        self.latencies = Latencies()

    def send(
        self, rows: Sequence[SpooledRow], outcome: BatchOutcome, canary: Sequence[SpooledRow] = ()
    ) -> None:
        """Send rows, halved for as long as the store refuses them together.

        With a canary (a row that the store just took), rows that get nothing but 500 are
        halved too. Before a single one of those is given up, the canary must pass once more: else
        the fault is the store's, not the row's.

        Raises Unavailable or Misconfigured; the outcome holds what ended before.
        """
        try:
            outcome.add(rows, self._write(rows, attempts=1 if canary and len(rows) > 1 else None))
            return
        except (BatchRefused, TooLarge) as refusal:
            reason = str(refusal)
        except StoreFault as fault:
            if not canary:
                raise
            reason = str(fault)
            if len(rows) == 1:
                self.attempt(canary)
        outcome.was_halved = True
        if len(rows) == 1:
            outcome.rejected[rows[0].row_id] = reason[:_REASON_LENGTH_MAX]
            return
        if self._stop.is_set():  # thousands of refused rows are minutes of requests
            raise Unavailable("delivery was stopped")
        middle = len(rows) // 2
        self.send(rows[:middle], outcome, canary)
        self.send(rows[middle:], outcome, canary)

    def attempt(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write rows once."""
        if not self._may_send():
            return WriteResult()
        started = perf_counter()
        try:
            return self._sink.write(rows)
        finally:
            self.latencies.add((perf_counter() - started) * 1000)

    def _write(self, rows: Sequence[SpooledRow], attempts: int | None) -> WriteResult:
        """Write rows, again and with growing waits while the store may come back.

        Raises StoreFault only when every attempt ended so: then it may be the rows.
        """
        from tenacity import (
            RetryCallState,
            Retrying,
            retry_if_exception,
            stop_after_attempt,
            wait_chain,
            wait_random,
        )

        failures: list[BaseException | None] = []
        waits = wait_chain(*[wait_random(*bounds) for bounds in self._schedule.wait_bounds])

        def note(state: RetryCallState) -> None:
            failures.append(state.outcome.exception() if state.outcome else None)

        def wait(state: RetryCallState) -> float:
            return max(waits(state), getattr(failures[-1], "retry_after_seconds", None) or 0.0)

        retrying = Retrying(
            stop=stop_after_attempt(attempts or self._schedule.attempts),
            retry=retry_if_exception(self._may_pass_later),
            after=note,
            wait=wait,
            # sleep_using_event would make one more attempt after the event was set.
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self.attempt, rows)
        except StoreFault as fault:
            if all(isinstance(failure, StoreFault) for failure in failures):
                raise
            raise Unavailable(str(fault)) from fault

    def _may_pass_later(self, error: BaseException) -> bool:
        return isinstance(error, Unavailable) and self._schedule.covers(error.retry_after_seconds)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Unavailable("delivery was stopped")


# --------------------------------------------------------------------------------------------------
# shared/delivery/delivery.py
#
# Delivery: moving batches from a spool to an event store, losing and doubling nothing.
# --------------------------------------------------------------------------------------------------


logger = logging.getLogger("owui_usage")

DeliveryState = Literal["idle", "standby", "unavailable", "breaker_open", "misconfigured"]


@dataclass(frozen=True, kw_only=True)
class DeliveryPolicy:
    """How batches are cut and retried; bytes are of the rows' JSON."""

    batch_rows: int = 5000
    # 400 kB compressed, where proxies answer 413 from 1 MB on. 2.9.1 took 8.6 k events/s so, and
    # 5.4 k when they were cut at 1 MB of JSON (two runs each, on a busy machine).
    batch_bytes: int = 4_000_000
    lease_seconds: float = 60.0
    probe_seconds: float = 60.0
    schedule: RetrySchedule = field(default_factory=RetrySchedule)
    breaker: Breaker = field(default_factory=Breaker)


@dataclass(frozen=True, kw_only=True)
class DeliveryResult:
    """What one run did, in rows, and how delivery stands after it; `message` is for the admin."""

    state: DeliveryState
    message: str
    accepted: int
    rejected: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class DeliveryStatus:
    """How delivery stands: for the `host` row. Latencies are of single writes, milliseconds."""

    state: DeliveryState
    message: str
    breaker: BreakerState
    write_p50_ms: float | None
    write_p99_ms: float | None


class Delivery:
    """Delivers one spool to one sink, one batch after the other, from one thread.

    A row leaves the queue only when the store took it or when the store refused that single row.
    Whatever else happens, rows wait; sending one again is safe, because stores take it as the same.
    """

    def __init__(
        self,
        spool: Spool,
        sink: EventSink,
        owner: str,
        clock: Clock,
        policy: DeliveryPolicy | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._spool = spool
        self._sink = sink
        self._owner = owner
        self._clock = clock
        self._policy = policy or DeliveryPolicy()
        self._stop = stop or threading.Event()
        self._sender = Sender(sink, self._policy.schedule, self._may_send, self._stop)
        self._breaker = self._policy.breaker
        self._size = BatchSize(self._policy.batch_rows)
        self._batches = BatchReader(spool, sink, self._size, self._policy.batch_bytes)
        self._state: DeliveryState = "idle"
        self._message = "ok"
        self._pause: tuple[datetime, datetime] | None = None
        self._leased_at: datetime | None = None
        self._counts = Counter[str]()

    def status(self) -> DeliveryStatus:
        """Return how delivery stands; any thread may ask."""
        return DeliveryStatus(
            state=self._state,
            message=self._message,
            breaker=self._breaker.state(self._clock.now()),
            write_p50_ms=self._sender.latencies.percentile(50),
            write_p99_ms=self._sender.latencies.percentile(99),
        )

    def run_once(self) -> DeliveryResult:
        """Deliver until the spool is empty or a batch is not taken.

        Does nothing while the breaker is open, a pause lasts or another process delivers. Raises
        SpoolError when the local disk has trouble.
        """
        self._counts = Counter[str]()
        if self._may_attempt() and self._may_send():
            self._drain()
        return DeliveryResult(
            state=self._state,
            message=self._message,
            accepted=self._counts["accepted"],
            rejected=self._counts["rejected"],
            kept=self._counts["kept"],
        )

    def release(self) -> None:
        """Give up the lease, so that another process can deliver."""
        self._leased_at = None
        self._spool.release(self._owner)

    def _may_attempt(self) -> bool:
        now = self._clock.now()
        # Both ends are compared, so that a clock that was set back does not prolong a pause.
        is_paused = self._pause is not None and self._pause[0] <= now < self._pause[1]
        return not is_paused and self._breaker.allows(now)

    def _drain(self) -> None:
        try:
            while batch := self._batches.next():
                with self._batches.ahead_of(batch):
                    outcome = self._deliver(batch)
                if outcome.waiting(batch) or self._stop.is_set():
                    return
        finally:
            self._batches.read_anew()
            self._batches.acknowledge()
        if self._state != "misconfigured":
            self._become("idle", "ok")

    def _deliver(self, batch: Sequence[SpooledRow]) -> BatchOutcome:
        """Deliver a batch and acknowledge what became of it."""
        outcome = BatchOutcome()
        try:
            self._send_or_isolate(batch, outcome)
            self._passed(outcome)
        except Unavailable as error:
            self._failed(error)
        except Misconfigured as error:
            self._misconfigured(str(error))
        except ModuleNotFoundError as error:
            self._misconfigured(
                f"the package {error.name} is missing here: pip install influxdb-client tenacity"
            )
        finally:
            self._end(outcome, kept=[row.row_id for row in outcome.waiting(batch)])
        return outcome

    def _send_or_isolate(self, batch: Sequence[SpooledRow], outcome: BatchOutcome) -> None:
        """Send a batch; one that alone makes the store fail is cut down to the rows that do it."""
        try:
            self._sender.send(batch, outcome)
        except StoreFault:
            canary = self._find_canary(after=batch[-1].row_id)
            if not canary:
                raise
            self._sender.send(outcome.waiting(batch), outcome, canary)

    def _find_canary(self, after: int) -> list[SpooledRow]:
        """Deliver the next batch, in one attempt, and return a row of it that was accepted.

        It is as small as batches are by now: a large one would hold the next row that is at fault.
        """
        self._batches.read_anew()
        following = self._spool.take(self._size.rows, after_row_id=after)
        batch = first_batch(following, self._policy.batch_bytes)
        outcome = BatchOutcome()
        if batch:
            outcome.add(batch, self._sender.attempt(batch))
            self._end(outcome, kept=())
        return [row for row in batch if row.row_id in outcome.accepted[:1]]

    def _end(self, outcome: BatchOutcome, kept: Sequence[int]) -> None:
        """Acknowledge rows; those that the store took are acknowledged beside the next batch."""
        self._batches.note_accepted(outcome.accepted)
        if outcome.rejected or kept:
            self._spool.acknowledge(rejected=list(outcome.rejected.items()), kept=kept)
        self._counts.update(
            accepted=len(outcome.accepted), rejected=len(outcome.rejected), kept=len(kept)
        )
        if outcome.rejected:
            # The server's answer may quote the line: it goes to the dead letter, not to the log.
            logger.warning("new dead letters: %d refused by the store", len(outcome.rejected))

    def _may_send(self) -> bool:
        """Renew the lease once half of it is over: attempts of one batch may outlast it."""
        now = self._clock.now()
        half = timedelta(seconds=self._policy.lease_seconds / 2)
        if self._leased_at is not None and timedelta(0) <= now - self._leased_at < half:
            return True
        if self._spool.lease(self._owner, self._policy.lease_seconds):
            self._leased_at = now
            return True
        self._leased_at = None
        self._become("standby", "another process delivers this spool")
        return False

    def _passed(self, outcome: BatchOutcome) -> None:
        """Note a batch that ended; one that was halved does not count for the breaker."""
        if outcome.accepted or outcome.rejected:
            self._pause = None
            self._size.grow()
            self._become("idle", "ok")
            if not outcome.was_halved:
                self._breaker = self._breaker.after_success()

    def _failed(self, error: Unavailable) -> None:
        if self._stop.is_set():
            return
        now = self._clock.now()
        self._breaker = self._breaker.after_failure(now)
        self._size.shrink()
        if error.retry_after_seconds is not None:
            self._pause = (now, now + timedelta(seconds=error.retry_after_seconds))
        is_closed = self._breaker.state(now) == "closed"
        self._become("unavailable" if is_closed else "breaker_open", str(error))

    def _misconfigured(self, message: str) -> None:
        """Keep everything and ask rarely, while another process may deliver if it can."""
        now = self._clock.now()
        self._pause = (now, now + timedelta(seconds=self._policy.probe_seconds))
        self._become("misconfigured", message)
        self.release()

    def _become(self, state: DeliveryState, message: str) -> None:
        is_news = state != self._state or (state == "misconfigured" and message != self._message)
        if is_news:
            level = logging.INFO if state in ("idle", "standby") else logging.WARNING
            logger.log(level, "delivery to %s is %s: %s", self._sink.name, state, message)
        self._state, self._message = state, message


# --------------------------------------------------------------------------------------------------
# shared/delivery/thread.py
#
# The thread that delivers inside a host, which may drop it without a word.
# --------------------------------------------------------------------------------------------------


class DeliveryThread:
    """Runs a delivery every `interval_seconds` in one daemon thread, begun on first use.

    The thread knows the delivery and the stop event, never this object: when the host forgets its
    owner, the stop event is set, waits end, and so does the thread. `stop` must be the event that
    the delivery was made with.
    """

    def __init__(
        self, delivery: Delivery, stop: threading.Event, interval_seconds: float = 1.0
    ) -> None:
        self._delivery = delivery
        self._stop = stop
        self._interval_seconds = interval_seconds
        self._thread: threading.Thread | None = None
        self._pid = 0
        finalize(self, stop.set)

    def start(self) -> None:
        """Begin unless it runs already; in a forked child, where threads are lost, begin anew."""
        is_running = self._thread is not None and self._thread.is_alive()
        if self._stop.is_set() or (is_running and self._pid == os.getpid()):
            return
        self._pid = os.getpid()
        self._thread = threading.Thread(
            target=_deliver_until_stopped,
            args=(self._delivery, self._stop, self._interval_seconds),
            name="usage-delivery",
            daemon=True,
        )
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> bool:
        """End waits and finish the batch at hand; tell whether the thread ended in time.

        What is not delivered stays in the spool.
        """
        self._stop.set()
        if self._thread is None or self._pid != os.getpid():
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()


def _deliver_until_stopped(
    delivery: Delivery, stop: threading.Event, interval_seconds: float
) -> None:
    last_error = ""
    while not stop.is_set():
        try:
            delivery.run_once()
            last_error = ""
        except Exception as error:  # noqa: BLE001 a job of the host: it must go on
            message = f"{type(error).__name__}: {error}"
            if message != last_error:
                logger.warning("delivery failed: %s", message)
            last_error = message
        stop.wait(interval_seconds)
    _release(delivery)


def _release(delivery: Delivery) -> None:
    try:
        delivery.release()
    except SpoolError as error:
        logger.warning("the delivery lease was left to expire: %s", error)


# --------------------------------------------------------------------------------------------------
# shared/core/sqlite_schema.py
#
# The version of a SQLite file's tables, kept in its `user_version`, and bringing it up to date.
# --------------------------------------------------------------------------------------------------


def sqlite_pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def upgrade_schema(
    connection: sqlite3.Connection, migrations: Sequence[Sequence[str]], application_id: int = 0
) -> None:
    """Run what a file lacks of `migrations`, one entry of statements per version.

    All in one transaction, also among processes; a file of a later version is left alone.
    """
    if sqlite_pragma(connection, "user_version") >= len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = sqlite_pragma(connection, "user_version")  # another process may have been faster
        if version < len(migrations):
            for statements in migrations[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {application_id}")
            connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


# --------------------------------------------------------------------------------------------------
# shared/spool/damage.py
#
# A damaged spool file: how to recognize it, and what of it can be rescued.
# --------------------------------------------------------------------------------------------------


# What a damaged file raises. sqlite3 cannot put damaged bytes of a schema into its own message.
SPOOL_FILE_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
_CORRUPT_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_COLUMNS = (
    "row_id, kind, event_id, request_id, point_time_ns, state, attempts, message, queued_at, json"
)


def is_corrupt(error: BaseException) -> bool:
    """Tell whether SQLite found a file damaged, or no database at all."""
    if isinstance(error, UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _CORRUPT_CODES


def spool_text(data: bytes) -> str:
    """Read a text; one that is damaged is no JSON any more, so that only its row is refused."""
    return data.decode("utf-8", "backslashreplace")


def rescue_rows(aside: Path, connection: sqlite3.Connection, now_ms: int) -> int:
    """Queue in a new file the rows that a damaged one still holds whole; returns how many.

    A file is used until SQLite meets the damage: rows that are in it by then were promised to
    last. They keep their numbers, and new ones begin beyond all of the old file's, so that a
    late acknowledgement hits no other row.
    """
    rescued = 0
    connection.execute("BEGIN IMMEDIATE")
    for row in _rows_that_can_be_read(aside):
        if _is_whole(row):
            rescued += connection.execute(
                f"INSERT OR IGNORE INTO rows ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - own words
                row,
            ).rowcount
    connection.execute(
        "INSERT OR IGNORE INTO digests SELECT point_time_ns, event_id, 0, queued_at FROM rows"
    )
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'rows'")
    connection.execute("INSERT INTO sqlite_sequence VALUES ('rows', ?)", (now_ms,))
    connection.execute("COMMIT")
    return rescued


def _rows_that_can_be_read(aside: Path) -> Iterator[tuple[Any, ...]]:
    """Return rows up to the damage, then those behind it, from the last one back."""
    with closing(sqlite3.connect(f"{aside.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.text_factory = spool_text
        for order in ("ASC", "DESC"):
            try:
                yield from db.execute(
                    f"SELECT {_COLUMNS} FROM rows NOT INDEXED WHERE kind <> 'host'"  # noqa: S608 - own words
                    f" ORDER BY row_id {order}"
                )
            except SPOOL_FILE_ERRORS:
                continue
            return


def _is_whole(row: tuple[Any, ...]) -> bool:
    """Tell whether a row is what was queued: its JSON has the identity of its column."""
    try:
        digest: str = row[2].hex()
        return row_from_json(row[1], row[-1]).event_id == digest and isinstance(row[4], int)
    except (InvalidEvent, AttributeError, TypeError, ValueError):
        return False


# --------------------------------------------------------------------------------------------------
# shared/core/file_lock.py
#
# An exclusive lock on an open file, among processes and among threads.
# --------------------------------------------------------------------------------------------------


def lock_file(descriptor: int, *, wait: bool = True) -> bool:
    """Take the lock, or return False if another holder has it and we do not wait.

    It ends with `unlock_file`, or with the process however that ends. Raises OSError where the file
    system has no locks.
    """
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    import msvcrt

    while True:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return True
        except OSError:
            if not wait:
                return False
            time.sleep(0.005)


def unlock_file(descriptor: int) -> None:
    """Release the lock; closing alone would not while a forked process has the descriptor too."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return
    import msvcrt

    msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)


# --------------------------------------------------------------------------------------------------
# shared/spool/lock.py
#
# The lock beside a spool file: one process at a time opens or writes it.
# --------------------------------------------------------------------------------------------------


def spool_file_mode(folder: Path) -> int:
    """Return the mode of new files: shared where the folder hands its group down (setgid)."""
    return 0o660 if folder.stat().st_mode & stat.S_ISGID else 0o600


def make_spool_folder(folder: Path) -> None:
    """Create the folder of a spool unless it exists, for the group where its parent is shared."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & stat.S_ISGID:
            folder.chmod(0o2770)


def create_spool_file(path: Path) -> None:
    """Create an empty file with the mode of its folder, whatever the umask, unless it exists."""
    make_spool_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)
    path.chmod(spool_file_mode(path.parent))


@contextmanager
def spool_lock(path: Path) -> Iterator[None]:
    """Hold the exclusive lock `<path>.lock`, among processes and among threads.

    Makes the folder and the lock where there is none. It waits as long as it takes: a holder that
    dies lets go. SQLite's own busy handler would starve writers (measured with 4 processes on a
    20 ms disk: p99 0.6 to 2.2 s against 0.13 s). The file is opened anew each time, so that a
    forked process never shares a lock with its parent.
    """
    descriptor = _open_spool_lock(f"{path}.lock")
    try:
        lock_file(descriptor)
        try:
            yield
        finally:
            unlock_file(descriptor)
    finally:
        os.close(descriptor)


def _open_spool_lock(lock_path: str) -> int:
    try:
        return os.open(lock_path, os.O_RDWR)
    except FileNotFoundError:
        create_spool_file(Path(lock_path))
        return os.open(lock_path, os.O_RDWR)


# --------------------------------------------------------------------------------------------------
# shared/spool/schema.py
#
# The tables of a spool file, and whether a file is ours to use.
# --------------------------------------------------------------------------------------------------


# In the header of the file, so that another program's database is never taken for a spool.
SPOOL_APPLICATION_ID = 0x4F575553

# One entry per version of the schema, the newest last; user_version of a file says how many it has.
# Only ever add: an older program must be able to go on with a newer file. A change that it could
# not live with also sets meta.min_reader to the version that is needed from then on.
# Times are milliseconds since 1970.
SPOOL_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # AUTOINCREMENT: the number of a delivered row is never given to another one, so that a late
        # acknowledgement cannot hit the wrong row.
        """CREATE TABLE rows (
            row_id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            event_id BLOB NOT NULL,
            request_id TEXT NOT NULL,
            point_time_ns INTEGER NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            message TEXT NOT NULL DEFAULT '',
            queued_at INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        # Few rows are ever put aside: the many that come and go cost this index nothing.
        "CREATE INDEX rows_put_aside ON rows (state) WHERE state <> 'queued'",
        "CREATE INDEX rows_by_request ON rows (request_id)",
        # Every row that this spool took, queued or delivered, by its time in the store; those of
        # hosts are not worth it, each is new. A time is close to that of the event before, a digest
        # lies anywhere: so what a delivery acknowledges is a few neighbouring pages, where moving
        # digests between two tables touched an index page for almost each of them (28 us of an
        # event, against 4). `is_delivered` and `changed_at` (queued or delivered then) keep their
        # size when they change, and so their page.
        """CREATE TABLE digests (
            point_time_ns INTEGER PRIMARY KEY,
            event_id BLOB NOT NULL,
            is_delivered INTEGER NOT NULL,
            changed_at INTEGER NOT NULL
        )""",
        "CREATE UNIQUE INDEX digests_by_event ON digests (event_id)",
        # The order in which they are forgotten.
        "CREATE INDEX digests_delivered ON digests (changed_at) WHERE is_delivered",
        """CREATE TABLE open_generations (
            request_id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            last_seen INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        """CREATE TABLE hosts (
            host_id TEXT PRIMARY KEY,
            occurred_at INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        """CREATE TABLE lease (
            place INTEGER PRIMARY KEY CHECK (place = 1),
            owner TEXT NOT NULL,
            expires_at INTEGER NOT NULL
        )""",
        "CREATE TABLE counters (reason TEXT PRIMARY KEY, total INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('min_reader', 1)",
    ),
)


def check_spool(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is ours to use, without changing it.

    A newer one is, if its `min_reader` allows it. Raises SpoolTooNew for a file that needs a
    later version, SpoolError for the database of another program.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and sqlite_pragma(connection, "application_id") != SPOOL_APPLICATION_ID:
        raise SpoolError(f"{path} is a database of another program; choose another spool folder")
    version = sqlite_pragma(connection, "user_version")
    if version <= len(SPOOL_MIGRATIONS):
        return
    needed = connection.execute("SELECT value FROM meta WHERE name = 'min_reader'").fetchone()
    if needed is None or needed[0] > len(SPOOL_MIGRATIONS):
        raise SpoolTooNew(
            f"{path} was written by a later version (schema {version}, this one knows "
            f"{len(SPOOL_MIGRATIONS)}): update this installation or choose another spool folder"
        )


def upgrade_spool(connection: sqlite3.Connection) -> None:
    """Bring a checked file up to date. The caller holds the lock."""
    upgrade_schema(connection, SPOOL_MIGRATIONS, SPOOL_APPLICATION_ID)


# --------------------------------------------------------------------------------------------------
# shared/spool/file.py
#
# The spool's file on disk: opening, transactions under the lock, and a corrupt file set aside.
# --------------------------------------------------------------------------------------------------


Synchronous = Literal["FULL", "NORMAL"]
# SQLite's own timeout for programs that do not know our lock (an admin's shell, a backup).
_SQLITE_BUSY_SECONDS = 30.0
# How much the log gathers before it is moved into the file: at SQLite's 1000 pages a delivery of
# a large queue, which touches pages all over the indexes, would move it with every commit.
_SPOOL_LOG_PAGES = 4000
# The log is laid out for so much from the start.
_SPOOL_LOG_BYTES = 4 * 1024**2
# For the writer alone: it comes back to the indexes, readers pass over the rows once.
_SPOOL_CACHE_KIB = 16 * 1024


class SpoolFile:
    """One spool file, used by one thread for writing and by any thread for reading.

    Nothing touches the disk before the first use. Raises sqlite3.Error, OSError and, for a damaged
    schema, UnicodeDecodeError as they come, SpoolError and SpoolTooNew for a file that is not ours
    to use.
    """

    def __init__(
        self, path: Path, synchronous: Synchronous, clock: Clock, count: Callable[[str, int], None]
    ) -> None:
        self.path = path
        self._synchronous = synchronous
        self._clock = clock
        self._count = count
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._level: Synchronous | None = None

    @contextmanager
    def writing(self, *, is_synced: bool = True) -> Iterator[sqlite3.Connection]:
        """Run one transaction under the lock; it is on disk when the block has ended.

        One that is not synced outlives the process at once, and a power loss with the next commit
        that is, or with a checkpoint.
        """
        synchronous: Synchronous = self._synchronous if is_synced else "NORMAL"
        with spool_lock(self.path):
            connection = self._current_connection()
            try:
                if synchronous != self._level:  # it costs more than any other statement of a hook
                    connection.execute(f"PRAGMA synchronous = {synchronous}")
                    self._level = synchronous
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    connection.rollback()
                self._set_aside_if_corrupt(error, self._identity)
                # A connection that failed once may fail for ever (a disk that went and came back).
                self._drop_connection()
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read one consistent state of the file, while others may write.

        Each reader opens the file anew: a connection that outlives its thread or is copied by a
        fork would do harm when it is closed.
        """
        with spool_lock(self.path):
            connection = self._open_or_replace()
            identity = self._file_identity()
        try:
            connection.execute("BEGIN")
            yield connection
        except SPOOL_FILE_ERRORS as error:
            with spool_lock(self.path):
                self._set_aside_if_corrupt(error, identity)
            raise
        finally:
            with spool_lock(self.path):
                connection.close()

    def checkpoint(self) -> None:
        """Move what the log holds into the file, as far as no reader needs it, and sync both."""
        if self._connection is not None:
            with spool_lock(self.path):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close the writing connection; the last one to leave a file empties its log."""
        if self._connection is not None:
            with spool_lock(self.path):
                self._drop_connection()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        self._level = None
        if connection is not None:
            connection.close()

    def _current_connection(self) -> sqlite3.Connection:
        """Return the connection to the file that stands at our path now.

        Another process may have set a corrupt file aside since our last transaction: what we wrote
        to the old one would be lost. SQLite leaves the log alone when it closes a moved file.
        """
        identity = self._file_identity()
        if identity != self._identity:
            self._drop_connection()
        if self._connection is None:
            self._connection = self._open_or_replace()
            self._identity = self._file_identity()
            self._connection.execute(f"PRAGMA cache_size = -{_SPOOL_CACHE_KIB}")
            # Without that room every commit is slower, and nothing worse.
            with suppress(OSError, sqlite3.Error):
                _lay_out_log(self._connection, Path(f"{self.path}-wal"))
        return self._connection

    def _file_identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            return self._open()
        except SPOOL_FILE_ERRORS as error:
            if not self._set_aside_if_corrupt(error, self._file_identity()):
                raise
            return self._open()

    def _open(self) -> sqlite3.Connection:
        create_spool_file(self.path)
        connection = sqlite3.connect(self.path, timeout=_SQLITE_BUSY_SECONDS, isolation_level=None)
        connection.text_factory = spool_text
        try:
            check_spool(connection, self.path)
            # Must come before the first page is written; without effect on an existing file.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_SPOOL_LOG_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {_SPOOL_LOG_PAGES * 4096}")
            upgrade_spool(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside_if_corrupt(self, error: BaseException, identity: tuple[int, int] | None) -> bool:
        """Rename a corrupt file and its log, unless another process already did. Holds the lock."""
        if not is_corrupt(error) or identity is None or self._file_identity() != identity:
            return False
        now = self._clock.now()
        aside = f"{self.path.name}.corrupt-{now:%Y%m%dT%H%M%S%fZ}"
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                part = self.path.with_name(self.path.name + suffix)
                part.rename(self.path.with_name(aside + suffix))
        logger.error("spool %s is corrupt: kept as %s, a new one begins", self.path, aside)
        self._count("corrupt_file", 1)
        self._rescue(self.path.with_name(aside), to_ms(now))
        return True

    def _rescue(self, aside: Path, now_ms: int) -> None:
        """Begin the new file with the readable rows of the old one; at worst they stay there."""
        try:
            with closing(self._open()) as connection:
                rescued = rescue_rows(aside, connection, now_ms)
        except (*SPOOL_FILE_ERRORS, OSError) as error:
            logger.error("no row was rescued from %s: %s", aside, error)
            return
        self._count("rescued", rescued)
        logger.warning("%d rows were rescued from %s", rescued, aside)


def _lay_out_log(connection: sqlite3.Connection, log: Path) -> None:
    """Prolong a log with zeros, which SQLite takes for the rest of an older log.

    It is written over from then on: a sync that need not record how much a file has grown takes
    the disk half the time. In a transaction, so that nobody else appends to the log meanwhile. A
    disk without that much room keeps what it has: others live there, too.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        with log.open("ab", buffering=0) as file:
            size = file.tell()
            zeros = bytes(max(0, _SPOOL_LOG_BYTES - size))
            if file.write(zeros) < len(zeros):
                file.truncate(size)
    finally:
        connection.rollback()


def spool_bytes_used(connection: sqlite3.Connection) -> int:
    """Return how many bytes of the file hold something; pages freed by delivery do not count."""
    pages = sqlite_pragma(connection, "page_count") - sqlite_pragma(connection, "freelist_count")
    return pages * sqlite_pragma(connection, "page_size")


# --------------------------------------------------------------------------------------------------
# shared/spool/enqueue.py
#
# Queueing: what one transaction does with rows and open generations that come in.
# --------------------------------------------------------------------------------------------------


# No row of ours comes near; it bounds what a caller can put on the disk at once.
_ROW_BYTES_MAX = 64 * 1024
_HOST_CLOCK_SLACK_MS = 60_000
# A row's columns and its entries in the indexes, beside its JSON.
_ROW_OVERHEAD_BYTES = 200

_LOOK_UP_SQL = """SELECT
    EXISTS (SELECT 1 FROM digests WHERE event_id = :event_id),
    EXISTS (SELECT 1 FROM digests WHERE point_time_ns = :point_time_ns),
    EXISTS (SELECT 1 FROM rows WHERE request_id = :request_id AND kind = 'usage'),
    EXISTS (SELECT 1 FROM open_generations WHERE request_id = :request_id)"""


@dataclass
class SpoolTransaction:
    """One transaction of the writer: its connection, its time and what it counted."""

    db: sqlite3.Connection
    now_ms: int
    counted: Counter[str] = field(default_factory=Counter)
    _bytes_used: int = -1

    def room_for(self, size: int, max_bytes: int) -> bool:
        """Tell whether `size` bytes fit, and count them as used if they do."""
        if self._bytes_used < 0:
            self._bytes_used = spool_bytes_used(self.db)
        if self._bytes_used + size > max_bytes:
            return False
        self._bytes_used += size
        return True


class IncomingRow(NamedTuple):
    """A row serialized and checked: writing it cannot fail for what is in it."""

    kind: str
    event_id: str
    request_id: str
    occurred_at: datetime
    json: str
    quarantine: str | None


class KnownRow(NamedTuple):
    """What the file knows of a row: the row, its time in the store, its bill, its generation."""

    is_known: bool
    is_time_taken: bool
    is_related: bool
    is_open: bool


def incoming_row(row: Row, now: datetime, max_cost_usd: Decimal) -> IncomingRow:
    """Serialize and check a row in the caller's thread, so that the writer need not."""
    return IncomingRow(
        kind=row.kind,
        event_id=row.event_id,
        request_id=_row_request_id(row),
        occurred_at=row.occurred_at,
        json=row.to_json(),
        quarantine=_row_quarantine(row, now, max_cost_usd),
    )


def queue_rows(
    tx: SpoolTransaction, rows: Sequence[IncomingRow], max_bytes: int
) -> list[PutOutcome]:
    """Queue rows and close the open generations they complete.

    Raises SpoolFull before it has changed anything.
    """
    _refuse_when_full(tx, rows, max_bytes)
    return [queue_row(tx, row) for row in rows]


def queue_row(tx: SpoolTransaction, row: IncomingRow) -> PutOutcome:
    """Queue one row whether there is room or not; its generation is open no longer."""
    if len(row.json) > _ROW_BYTES_MAX:
        tx.counted["refused_too_large"] += 1
        return "refused"
    known, time_ns = _look_up_with_free_time(tx.db, row)
    if known.is_known:
        outcome: PutOutcome = "duplicate"
    else:
        outcome = _insert_spool_row(tx, row, time_ns, known.is_related)
    tx.counted[outcome] += 1
    if known.is_open and row.kind == "usage":
        tx.db.execute("DELETE FROM open_generations WHERE request_id = ?", (row.request_id,))
    return outcome


def upsert_open_generation(
    tx: SpoolTransaction, row: IncomingRow, owner: str, seen_ms: int
) -> None:
    """Store a generation that has begun, or more of what is known of it.

    One that is booked already or belongs to another process is left alone.
    """
    tx.db.execute(
        "INSERT INTO open_generations (request_id, owner, last_seen, json)"
        " SELECT :request_id, :owner, :seen, :json"
        " WHERE NOT EXISTS (SELECT 1 FROM rows WHERE request_id = :request_id AND kind = 'usage')"
        " ON CONFLICT (request_id) DO UPDATE SET last_seen = excluded.last_seen,"
        " json = excluded.json WHERE owner = excluded.owner",
        {"request_id": row.request_id, "owner": owner, "seen": seen_ms, "json": row.json},
    )


def _look_up_with_free_time(db: sqlite3.Connection, row: IncomingRow) -> tuple[KnownRow, int]:
    """Look a row up, with a time in the store that no other event of this spool has."""
    for collision_offset in count():
        time_ns = point_time_ns(row.event_id, row.request_id, row.occurred_at, collision_offset)
        known = _look_up_row(db, row, time_ns)
        if known.is_known or not known.is_time_taken:
            break
    return known, time_ns


def _insert_spool_row(
    tx: SpoolTransaction, row: IncomingRow, time_ns: int, is_related: bool
) -> PutOutcome:
    event_id = bytes.fromhex(row.event_id)
    if row.kind == "host":
        _keep_newest_host(tx, row)
    else:
        tx.db.execute("INSERT INTO digests VALUES (?, ?, 0, ?)", (time_ns, event_id, tx.now_ms))
    if is_related and row.kind == "usage" and _is_money_conflict(tx.db, row):
        tx.counted["conflict"] += 1
    if row.quarantine is not None:
        tx.counted[f"quarantined_{row.quarantine}"] += 1
    outcome: PutOutcome = "quarantined" if row.quarantine else "queued"
    tx.db.execute(
        "INSERT INTO rows"
        " (kind, event_id, request_id, point_time_ns, state, message, queued_at, json)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.kind,
            event_id,
            row.request_id,
            time_ns,
            outcome,
            row.quarantine or "",
            tx.now_ms,
            row.json,
        ),
    )
    return outcome


def _look_up_row(db: sqlite3.Connection, row: IncomingRow, time_ns: int) -> KnownRow:
    names = {
        "event_id": bytes.fromhex(row.event_id),
        "point_time_ns": time_ns,
        "request_id": row.request_id,
    }
    return KnownRow(*map(bool, db.execute(_LOOK_UP_SQL, names).fetchone()))


def _refuse_when_full(tx: SpoolTransaction, rows: Sequence[IncomingRow], max_bytes: int) -> None:
    # Host rows are let in: each replaces the last one, and they report that the spool is full.
    new = [row for row in rows if row.kind != "host"]
    needed = sum(len(row.json) + _ROW_OVERHEAD_BYTES for row in new)
    if tx.room_for(needed, max_bytes) or all(_look_up_row(tx.db, row, 0).is_known for row in new):
        return
    tx.counted["refused_full"] += len(rows)
    raise SpoolFull(f"the spool has reached its limit of {max_bytes} bytes")


def _keep_newest_host(tx: SpoolTransaction, row: IncomingRow) -> None:
    """Keep the newest row of a host; older ones need no delivery any more.

    A row from well in the future was written before a clock was set back: any other replaces it.
    """
    tx.db.execute(
        "INSERT INTO hosts (host_id, occurred_at, json) VALUES (?, ?, ?)"
        " ON CONFLICT (host_id) DO UPDATE SET occurred_at = excluded.occurred_at,"
        " json = excluded.json WHERE excluded.occurred_at >= occurred_at OR occurred_at > ?",
        (
            row.request_id,
            to_ms(row.occurred_at),
            row.json,
            tx.now_ms + _HOST_CLOCK_SLACK_MS,
        ),
    )
    tx.db.execute(
        "DELETE FROM rows WHERE request_id = ? AND kind = 'host' AND state = 'queued'",
        (row.request_id,),
    )


def _is_money_conflict(db: sqlite3.Connection, row: IncomingRow) -> bool:
    """Tell whether another observation of this bill, still here, was settled at another amount."""
    mine = _settled_amounts(row.json)
    if mine is None:
        return False
    others = db.execute(
        "SELECT json FROM rows WHERE request_id = ? AND kind = 'usage'", (row.request_id,)
    )
    return any(_settled_amounts(text) not in (None, mine) for (text,) in others)


def _settled_amounts(text: str) -> tuple[str, str | None] | None:
    """Return charge and upstream cost as every event writes them, None while it is pending."""
    try:
        event = loads(text)
    except ValueError:
        return None  # damaged on disk; delivery will find out
    return (event["cost_usd"], event.get("upstream_cost_usd")) if "cost_usd" in event else None


def _row_request_id(row: Row) -> str:
    if isinstance(row, HostRow):
        return row.host_id
    if isinstance(row, UserRow):
        return row.user_id
    return row.request_id


def _row_quarantine(row: Row, now: datetime, max_cost_usd: Decimal) -> str | None:
    if not isinstance(row, UsageEvent):
        return None
    if not has_store_time(row.occurred_at):
        return "time_out_of_range"
    return quarantine_reason(row, now, max_cost_usd)


# --------------------------------------------------------------------------------------------------
# shared/spool/acknowledge.py
#
# What one transaction does with rows and open generations that are already there.
# --------------------------------------------------------------------------------------------------


_MESSAGE_MAX = 500
_ROWS_PER_STEP = 1000
# A hook may wait behind one slice of a delivery's end.
_SLICE_SECONDS = 0.02
# A lease that ends later than this was written under a clock that has been corrected since.
_LEASE_MAX_MS = 3_600_000
# How long an owner may be silent beyond the idle timeout before another process acts for it.
_OWNER_GRACE_SECONDS = 60.0
_PRUNE_ROWS = 500
_VACUUM_PAGES = 128
# Free pages that are not worth giving back: the next rows need them.
_SPARE_PAGES = 256
_HOST_DAYS = 35


def acknowledge_slice(
    tx: SpoolTransaction,
    change: Callable[[SpoolTransaction, Sequence[Any]], None],
    rows: Sequence[Any],
) -> int:
    """Change the first rows, for as long as a hook may wait behind; returns how many.

    The more rows share a commit, the fewer pages each of them has written anew.
    """
    done, end = 0, time.monotonic() + _SLICE_SECONDS
    while done < len(rows) and (done == 0 or time.monotonic() < end):
        change(tx, rows[done : done + _ROWS_PER_STEP])
        done += _ROWS_PER_STEP
    return min(done, len(rows))


def accept_rows(tx: SpoolTransaction, row_ids: Sequence[int]) -> None:
    """Forget delivered rows but for their digest and their time in the store."""
    among, ids = _among(row_ids)
    tx.db.execute(
        "UPDATE digests SET is_delivered = 1, changed_at = ?"  # noqa: S608 - own words
        " WHERE point_time_ns IN"
        f" (SELECT point_time_ns FROM rows WHERE {among} AND kind <> 'host')",
        (tx.now_ms, *ids),
    )
    done = tx.db.execute(f"DELETE FROM rows WHERE {among}", ids)  # noqa: S608 - own words
    tx.counted["delivered"] += done.rowcount


def reject_rows(tx: SpoolTransaction, row_ids: Sequence[tuple[int, str]]) -> None:
    """Put rows aside with the server's message, for a person to look at."""
    for row_id, message in row_ids:
        done = tx.db.execute(
            "UPDATE rows SET state = 'dead', attempts = attempts + 1, message = ?"
            " WHERE row_id = ? AND state = 'queued'",
            (message[:_MESSAGE_MAX], row_id),
        )
        tx.counted["dead"] += done.rowcount


def keep_rows(tx: SpoolTransaction, row_ids: Sequence[int]) -> None:
    """Count an attempt of rows that stay queued."""
    tx.db.execute(
        "UPDATE rows SET attempts = attempts + 1"
        " WHERE row_id IN (SELECT value FROM json_each(?)) AND state = 'queued'",
        (dumps(list(row_ids)),),
    )


def replay_rows(tx: SpoolTransaction, states: Collection[str], kinds: Collection[str]) -> int:
    """Queue rows again that were put aside; returns how many."""
    done = tx.db.execute(
        "UPDATE rows SET state = 'queued', attempts = 0, message = ''"
        " WHERE state IN (SELECT value FROM json_each(?)) AND state <> 'queued'"
        " AND kind IN (SELECT value FROM json_each(?))",
        (dumps(sorted(states)), dumps(sorted(kinds))),
    )
    tx.counted["replayed"] += done.rowcount
    return done.rowcount


def take_lease(tx: SpoolTransaction, owner: str, seconds: float) -> bool:
    """Take the lease or keep it; renewed only in its second half, to spare the disk."""
    held = tx.db.execute("SELECT owner, expires_at FROM lease").fetchone()
    left_ms = 0 if held is None else held[1] - tx.now_ms
    is_live = 0 < left_ms <= max(_LEASE_MAX_MS, seconds * 1000)
    if is_live and held[0] != owner:
        return False
    if is_live and left_ms > seconds * 500:
        return True
    tx.db.execute(
        "INSERT OR REPLACE INTO lease (place, owner, expires_at) VALUES (1, ?, ?)",
        (owner, tx.now_ms + round(seconds * 1000)),
    )
    return True


def holds_lease(tx: SpoolTransaction, owners: Collection[str]) -> bool:
    held = tx.db.execute("SELECT owner FROM lease WHERE expires_at > ?", (tx.now_ms,)).fetchone()
    return held is not None and held[0] in owners


def release_lease(tx: SpoolTransaction, owner: str) -> None:
    tx.db.execute("DELETE FROM lease WHERE owner = ?", (owner,))


def refresh_open_generations(tx: SpoolTransaction, owner: str, seen: Mapping[str, int]) -> set[str]:
    """Store when the generations of an owner were last seen; returns those still open."""
    still_open = {
        request_id
        for (request_id,) in tx.db.execute(
            "SELECT request_id FROM open_generations WHERE owner = ?", (owner,)
        )
    }
    tx.db.executemany(
        "UPDATE open_generations SET last_seen = ? WHERE request_id = ? AND last_seen < ?",
        [(ms, name, ms) for name, ms in seen.items() if name in still_open],
    )
    return still_open


def expire_open_generations(
    tx: SpoolTransaction,
    owner: str,
    now: datetime,
    idle_timeout_seconds: float,
    max_cost_usd: Decimal,
    with_silent_owners: bool,
) -> int:
    """Queue the pending events of generations that stayed open, and forget these."""
    quiet = to_ms(now - timedelta(seconds=idle_timeout_seconds))
    silent = quiet - round(_OWNER_GRACE_SECONDS * 1000)
    expired = tx.db.execute(
        "SELECT request_id, json FROM open_generations WHERE (owner = ? AND last_seen <= ?)"
        " OR (? AND owner <> ? AND last_seen <= ?)",
        (owner, quiet, with_silent_owners, owner, silent),
    ).fetchall()
    for request_id, text in expired:
        try:
            queue_row(tx, incoming_row(event_from_json(text), now, max_cost_usd))
        except InvalidEvent:
            tx.counted["refused_damaged_note"] += 1
        tx.db.execute("DELETE FROM open_generations WHERE request_id = ?", (request_id,))
    tx.counted["expired_open"] += len(expired)
    return len(expired)


def prune_spool(tx: SpoolTransaction, digest_days: int) -> bool:
    """Forget old digests and give free pages back, in a small step; True when there may be more."""
    day_ms = 86_400_000
    pruned = tx.db.execute(
        "DELETE FROM digests WHERE point_time_ns IN (SELECT point_time_ns FROM digests"
        " WHERE is_delivered AND changed_at < ? ORDER BY changed_at LIMIT ?)",
        (tx.now_ms - digest_days * day_ms, _PRUNE_ROWS),
    ).rowcount
    tx.db.execute("DELETE FROM hosts WHERE occurred_at < ?", (tx.now_ms - _HOST_DAYS * day_ms,))
    spare = sqlite_pragma(tx.db, "freelist_count") - _SPARE_PAGES
    for _ in range(min(spare, _VACUUM_PAGES)):
        # One by one: Python's sqlite3 ends this statement after its first page, whatever N says.
        tx.db.execute("PRAGMA incremental_vacuum(1)")
    return pruned == _PRUNE_ROWS or spare > _VACUUM_PAGES


def save_counters(db: sqlite3.Connection, counted: Mapping[str, int]) -> None:
    db.executemany(
        "INSERT INTO counters (reason, total) VALUES (?, ?)"
        " ON CONFLICT (reason) DO UPDATE SET total = total + excluded.total",
        [(reason, by) for reason, by in counted.items() if by],
    )


def _among(row_ids: Sequence[int]) -> tuple[str, tuple[int | str, ...]]:
    """Return a condition on row_id with its values: a range where they are all neighbours."""
    first, last = min(row_ids), max(row_ids)
    if last - first + 1 == len(set(row_ids)):
        return "row_id BETWEEN ? AND ?", (first, last)
    return "row_id IN (SELECT value FROM json_each(?))", (dumps(list(row_ids)),)


# --------------------------------------------------------------------------------------------------
# shared/spool/queries.py
#
# Reading a spool: what waits, what was put aside, and the counts of its status.
# --------------------------------------------------------------------------------------------------


_LETTERS_PER_PAGE = 500
AsideState = Literal["dead", "quarantined"]


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A row as a person reads it; dead and quarantined ones wait for a replay.

    `message` is the server's for a dead row, the reason for a quarantined one.
    """

    row_id: int
    kind: RowKind
    state: str
    request_id: str
    message: str
    attempts: int
    queued_at: datetime
    json: str

    def to_line(self) -> str:
        """Write the letter as one line of JSON, the row inside it as an object.

        A row that the disk damaged is no JSON any more: it stands there as the text it is.
        """
        return dumps(
            {
                "row_id": self.row_id,
                "kind": self.kind,
                "state": self.state,
                "request_id": self.request_id,
                "words": self.message,
                "attempts": self.attempts,
                "queued_at": self.queued_at.isoformat(),
                "row": self._row(),
            }
        )

    def _row(self) -> object:
        try:
            return loads(self.json)
        except ValueError:
            return self.json


def read_queued(db: sqlite3.Connection, limit: int, after_row_id: int) -> list[SpooledRow]:
    found = db.execute(
        "SELECT row_id, kind, lower(hex(event_id)), json, point_time_ns, attempts FROM rows"
        " WHERE state = 'queued' AND row_id > ? ORDER BY row_id LIMIT ?",
        (after_row_id, limit),
    )
    return [SpooledRow(*values) for values in found]


def read_letters(
    db: sqlite3.Connection,
    states: Collection[str],
    kinds: Collection[str],
    after_row_id: int,
    limit: int,
) -> list[DeadLetter]:
    """Return rows that were put aside, in one of these states, the oldest first."""
    return _read_page(
        db,
        # Named, because a million queued rows may stand between two letters.
        "FROM rows INDEXED BY rows_put_aside WHERE state <> 'queued' AND row_id > ?"
        " AND state IN (SELECT value FROM json_each(?))"
        " AND kind IN (SELECT value FROM json_each(?)) ORDER BY row_id LIMIT ?",
        (after_row_id, dumps(sorted(states)), dumps(sorted(kinds)), limit),
    )


def read_everything(db: sqlite3.Connection, after_row_id: int, limit: int) -> list[DeadLetter]:
    return _read_page(
        db, "FROM rows WHERE row_id > ? ORDER BY row_id LIMIT ?", (after_row_id, limit)
    )


def read_hosts(db: sqlite3.Connection) -> list[HostRow]:
    """Return the newest row of every host that used this file."""
    hosts = []
    for (text,) in db.execute("SELECT json FROM hosts ORDER BY host_id"):
        with suppress(InvalidEvent):  # of a later version
            hosts.append(row_from_json("host", text))
    return [host for host in hosts if isinstance(host, HostRow)]


def read_status(db: sqlite3.Connection, unsaved: Mapping[str, int], max_bytes: int) -> SpoolStatus:
    """Count what the file holds; `unsaved` counts are not in it yet."""
    aside = dict(
        db.execute("SELECT state, count(*) FROM rows WHERE state <> 'queued' GROUP BY state")
    )
    counters = dict(db.execute("SELECT reason, total FROM counters"))
    for reason, by in unsaved.items():
        counters[reason] = counters.get(reason, 0) + by
    oldest = db.execute(
        "SELECT queued_at FROM rows WHERE state = 'queued' ORDER BY row_id LIMIT 1"
    ).fetchone()
    return SpoolStatus(
        queued=_count_of(db, "rows") - sum(aside.values()),
        dead_letters=aside.get("dead", 0),
        quarantined=aside.get("quarantined", 0),
        open_generations=_count_of(db, "open_generations"),
        oldest_queued_at=None if oldest is None else from_ms(oldest[0]),
        size_bytes=spool_bytes_used(db),
        size_limit_bytes=max_bytes,
        counters=counters,
    )


def letters_by_page(
    reading: Callable[[], AbstractContextManager[sqlite3.Connection]],
    read: Callable[..., list[DeadLetter]],
) -> Iterator[DeadLetter]:
    """Read page by page: a slow reader must not keep the log from being emptied."""
    after = 0
    while True:
        with reading() as db:
            page = read(db, after_row_id=after, limit=_LETTERS_PER_PAGE)
        if not page:
            return
        yield from page
        after = page[-1].row_id


def _read_page(
    db: sqlite3.Connection, source: str, values: tuple[int | str, ...]
) -> list[DeadLetter]:
    found = db.execute(
        "SELECT row_id, kind, state, request_id, message, attempts, queued_at, json " + source,
        values,
    )
    return [
        DeadLetter(
            row_id=row_id,
            kind=kind,
            state=state,
            request_id=request_id,
            message=message,
            attempts=attempts,
            queued_at=from_ms(queued_at),
            json=text,
        )
        for row_id, kind, state, request_id, message, attempts, queued_at, text in found
    ]


def _count_of(db: sqlite3.Connection, table: Literal["rows", "open_generations"]) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - own names


# --------------------------------------------------------------------------------------------------
# shared/spool/writer.py
#
# The one thread of a process that writes to a spool: everything that waits, in one commit.
# --------------------------------------------------------------------------------------------------


SpoolAnswer = TypeVar("SpoolAnswer")

# Jobs that share a commit at most, and jobs that may wait while the disk does not answer.
_JOBS_PER_COMMIT = 1000
_JOBS_WAITING_MAX = 10_000
_SPOOL_EXIT_SECONDS = 5.0
_UPKEEP_RETRY_SECONDS = 30.0
# Work that is not awaited is synced with the next commit that is, and no later than this.
_UNSYNCED_SECONDS = 1.0
# Commits of hooks that fit into the log as it was laid out: it is written anew, not prolonged.
_COMMITS_PER_LOG = 128
_SAME_LOG_SECONDS = 60.0


class SpoolCounters:
    """Totals of this process, and how much of them the file does not have yet."""

    def __init__(self) -> None:
        # Reentrant: a garbage collection in the middle may end a spool, which counts as well.
        self._lock = threading.RLock()
        self._totals: Counter[str] = Counter()
        self._unsaved: Counter[str] = Counter()

    def add(self, reason: str, by: int = 1) -> None:
        """Count now; the next commit stores it."""
        with self._lock:
            self._totals[reason] += by
            self._unsaved[reason] += by

    def unsaved(self) -> dict[str, int]:
        with self._lock:
            return dict(self._unsaved)

    def commit(self, carried: Mapping[str, int], counted: Mapping[str, int]) -> None:
        """Record a commit: `carried` was unsaved before, `counted` arose in the transaction."""
        with self._lock:
            self._unsaved.subtract(carried)
            self._unsaved = +self._unsaved
            self._totals.update(counted)

    def totals(self) -> dict[str, int]:
        with self._lock:
            return dict(self._totals)


@dataclass(frozen=True)
class SpoolJob:
    """Work for one transaction. It may refuse with a UsageError before its first change.

    `is_awaited` work is on disk when its future is done; other work outlives the process by then,
    a power loss a second later.
    """

    run: Callable[[SpoolTransaction], Any]
    future: Future[Any]
    is_awaited: bool = True

    def answer(self, tx: SpoolTransaction) -> Any:
        """Return what the work returns, or its refusal."""
        try:
            return self.run(tx)
        except UsageError as refusal:
            return refusal.with_traceback(None)  # it would keep the transaction alive


class SpoolWriter:
    """Commits jobs in the order of their arrival, as many at once as wait.

    The thread starts with the first job, keeps no reference to the spool that it serves and ends
    with `stop` or with the process. `upkeep` runs in a transaction of its own now and then and
    returns the seconds until it wants to run again.
    """

    def __init__(
        self,
        file: SpoolFile,
        counters: SpoolCounters,
        clock: Clock,
        upkeep: Callable[[SpoolTransaction], float],
    ) -> None:
        self._file = file
        self._counters = counters
        self._clock = clock
        self._upkeep = upkeep
        self._upkeep_at = time.monotonic()
        self._checkpoint_at = inf
        self._commits_in_log = 0
        self._process_id = os.getpid()
        # No lock of its own: a garbage collection may enter it once more in the middle. None ends a
        # wait.
        self._queue: SimpleQueue[SpoolJob | None] = SimpleQueue()
        # Reentrant: a garbage collection that ends a spool may enter it once more.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._is_exiting = False
        self._logged = ""
        self._log_again_at = 0.0

    def submit(
        self, run: Callable[[SpoolTransaction], SpoolAnswer], *, is_awaited: bool = True
    ) -> Future[SpoolAnswer]:
        """Have work done in one of the next transactions.

        The future ends in a UsageError of the work itself or in SpoolError; it cannot be cancelled,
        so that an impatient caller never undoes a commit.
        """
        future: Future[SpoolAnswer] = Future()
        future.set_running_or_notify_cancel()
        try:
            self._enqueue(SpoolJob(run, future, is_awaited))
        except SpoolError as error:
            future.set_exception(error)
        return future

    def stop(self) -> None:
        """Refuse new work and let the thread end after what waits; returns at once."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._queue.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end after `stop`; False if it has not."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(seconds)
        return not thread.is_alive()

    def _enqueue(self, job: SpoolJob) -> None:
        with self._lock:
            if self._stopped:
                self._counters.add("refused_closed")
                raise SpoolError(f"spool {self._file.path} is closed")
            if self._queue.qsize() >= _JOBS_WAITING_MAX:
                self._counters.add("refused_backlog")
                raise SpoolFull(
                    f"the disk of {self._file.path} does not keep up: {_JOBS_WAITING_MAX} jobs wait"
                )
            self._start()
            self._queue.put(job)

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        thread = threading.Thread(target=self._run, name="owui_usage spool", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise SpoolError(f"no thread for the spool: {error}") from error
        self._thread = thread
        atexit.register(self._exit)

    def _exit(self) -> None:
        """Commit what waits when the process ends; a forked child has no such thread."""
        if os.getpid() == self._process_id:
            self._is_exiting = True
            self.stop()
            self.join(_SPOOL_EXIT_SECONDS)

    def _run(self) -> None:
        while not self._stopped or not self._queue.empty():
            seconds = min(self._upkeep_at, self._checkpoint_at) - time.monotonic()
            if jobs := self._take(_JOBS_PER_COMMIT, max(0.0, seconds)):
                self._commit(jobs)
            if time.monotonic() >= self._upkeep_at:
                self._upkeep_at = time.monotonic() + _UPKEEP_RETRY_SECONDS
                self._commit([SpoolJob(self._run_upkeep, Future())])
                self._checkpoint_at = 0.0
            if time.monotonic() >= self._checkpoint_at:
                # Between two commits: no hook has to wait for it, unless it comes just now.
                self._commits_in_log, self._checkpoint_at = 0, inf
                self._tidy(self._file.checkpoint)
        self._tidy(self._file.close)
        if not self._is_exiting:
            atexit.unregister(self._exit)

    def _take(self, most: int, timeout: float = 0.0) -> list[SpoolJob]:
        """Take at most `most` jobs; `timeout` is in seconds, for the first of them."""
        jobs: list[SpoolJob] = []
        with suppress(Empty):
            while len(jobs) < most:
                job = self._queue.get(timeout=timeout)
                timeout = 0.0
                if job is not None:
                    jobs.append(job)
        return jobs

    def _run_upkeep(self, tx: SpoolTransaction) -> None:
        self._upkeep_at = time.monotonic() + self._upkeep(tx)

    def _commit(self, jobs: list[SpoolJob]) -> None:
        """Commit jobs together and resolve their futures; a failure never ends the thread."""
        try:
            answers = self._transact(jobs)
        except Exception as error:  # noqa: BLE001 - whatever happens, callers get an answer
            self._fail(jobs, error)
            return
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, UsageError):
                self._log_throttled(str(answer))
                job.future.set_exception(answer)
            else:
                job.future.set_result(answer)

    def _transact(self, jobs: list[SpoolJob]) -> list[Any]:
        try:
            return self._transact_once(jobs)
        except SPOOL_FILE_ERRORS as error:
            if not is_corrupt(error):
                raise
            # The file has been set aside; nothing of these jobs is in the new one yet.
            return self._transact_once(jobs)

    def _transact_once(self, jobs: list[SpoolJob]) -> list[Any]:
        """Run jobs in one transaction, and what has come in by its end: `jobs` grows by it."""
        is_synced = any(job.is_awaited for job in jobs)
        with self._file.writing(is_synced=is_synced) as db:
            changes = db.total_changes
            tx = SpoolTransaction(db, to_ms(self._clock.now()))
            answers = [job.answer(tx) for job in jobs]
            while is_synced and (late := self._take(_JOBS_PER_COMMIT - len(jobs))):
                jobs += late
                answers += [job.answer(tx) for job in late]
            carried = self._counters.unsaved()
            save_counters(db, tx.counted + Counter(carried))
        self._counters.commit(carried, +tx.counted)
        self._plan_checkpoint(is_synced=is_synced and db.total_changes > changes)
        return answers

    def _plan_checkpoint(self, *, is_synced: bool) -> None:
        self._commits_in_log += 1
        if self._commits_in_log >= _COMMITS_PER_LOG:
            self._checkpoint_at = 0.0
        elif is_synced:
            self._checkpoint_at = inf
        else:
            self._checkpoint_at = min(self._checkpoint_at, time.monotonic() + _UNSYNCED_SECONDS)

    def _fail(self, jobs: Sequence[SpoolJob], error: Exception) -> None:
        self._counters.add("write_failed", len(jobs))
        kind, message = SpoolError, f"{self._file.path}: {error}"
        if isinstance(error, SpoolError):
            kind, message = type(error), str(error)
        self._log_throttled(message)
        for job in jobs:
            job.future.set_exception(kind(message))

    def _log_throttled(self, message: str) -> None:
        """Log a failure, the same one once a minute: an outage must not fill the disk."""
        if message != self._logged or time.monotonic() >= self._log_again_at:
            logger.error("rows were not queued: %s", message)
            self._logged = message
            self._log_again_at = time.monotonic() + _SAME_LOG_SECONDS

    def _tidy(self, step: Callable[[], None]) -> None:
        """Run a step whose failure loses no event: all is committed."""
        try:
            step()
        except (sqlite3.Error, OSError) as error:
            logger.warning("spool %s: %s", self._file.path, error)


# --------------------------------------------------------------------------------------------------
# shared/spool/sqlite_spool.py
#
# The spool: the durable queue on local disk between capture and delivery, over sqlite3.
# --------------------------------------------------------------------------------------------------


_ROW_KINDS: tuple[str, ...] = get_args(RowKind)
_ASIDE_STATES: tuple[AsideState, ...] = ("dead", "quarantined")
# A delivery thread gives up on a disk that hangs.
_DISK_ANSWER_SECONDS = 60.0
# More generations than one host can have open; what comes beyond is not refreshed.
_SEEN_MAX = 50_000
# Between two small steps of tidying up: hooks come first.
_PRUNE_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class SpoolSettings:
    max_bytes: int = 1024 * 1024**2
    max_cost_usd: Decimal = Decimal(10_000)
    synchronous: Synchronous = "FULL"
    digest_days: int = 35
    refresh_seconds: float = 30.0
    close_seconds: float = 5.0


class SpoolProcess:
    """What a spool keeps per process; a forked child begins with a new one."""

    def __init__(self, path: Path, settings: SpoolSettings, clock: Clock) -> None:
        self.owner = secrets.token_hex(8)
        self.counters = SpoolCounters()
        self.file = SpoolFile(path, settings.synchronous, clock, self.counters.add)
        self.writer = SpoolWriter(self.file, self.counters, clock, self._keep_up)
        self._settings = settings
        self._clock = clock
        self._seen: dict[str, int] = {}
        self._lease_owners: set[str] = set()

    def touch(self, request_ids: Sequence[str]) -> None:
        """Remember that these generations are alive; the next refresh stores it."""
        now_ms = to_ms(self._clock.now())
        for request_id in request_ids:
            if len(self._seen) < _SEEN_MAX or request_id in self._seen:
                self._seen[request_id] = now_ms

    def lease(self, tx: SpoolTransaction, owner: str, seconds: float) -> bool:
        if not take_lease(tx, owner, seconds):
            return False
        self._lease_owners.add(owner)
        return True

    def expire(self, tx: SpoolTransaction, now: datetime, idle_timeout_seconds: float) -> int:
        """Book idle generations of this process, and of silent ones if it holds the lease."""
        self._refresh(tx)
        return expire_open_generations(
            tx,
            self.owner,
            now,
            idle_timeout_seconds,
            self._settings.max_cost_usd,
            with_silent_owners=holds_lease(tx, self._lease_owners),
        )

    def _keep_up(self, tx: SpoolTransaction) -> float:
        self._refresh(tx)
        has_more = prune_spool(tx, self._settings.digest_days)
        return _PRUNE_PAUSE_SECONDS if has_more else self._settings.refresh_seconds

    def _refresh(self, tx: SpoolTransaction) -> None:
        seen = dict(self._seen)
        still_open = refresh_open_generations(tx, self.owner, seen)
        for request_id in seen.keys() - still_open:
            self._seen.pop(request_id, None)


class SqliteSpool:
    """A spool file; every method may be called from any thread and in a forked child.

    Several processes may use one file; an older one is brought up to date, a corrupt one is kept
    beside a new one. Nothing touches the disk and no thread starts before the first use. A spool
    that is dropped or closed commits what waits and ends its thread. Counted by reason: queued,
    duplicate, quarantined, quarantined_<reason>, conflict, refused, refused_full,
    refused_backlog, refused_closed, refused_too_large, refused_damaged_note, overrun, write_failed,
    corrupt_file, rescued, delivered, dead, replayed, expired_open.
    """

    def __init__(
        self, path: Path, *, settings: SpoolSettings | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.path = path
        self.settings = settings or SpoolSettings()
        self._clock = clock
        self._processes: dict[int, SpoolProcess] = {}
        # At exit the writer itself gives what waits a moment; a spool that is dropped before only
        # asks it to end, because garbage is collected in any thread, the event loop's too.
        weakref.finalize(self, _stop_writers, self._processes).atexit = False

    def put(self, rows: Sequence[Row]) -> Future[list[PutOutcome]]:
        """Queue rows; the future is done when they would survive a power loss.

        One outcome per row, in order; the row of a host replaces an older one that waits. A
        duplicate of a queued or delivered event is no error. The future ends in SpoolFull or
        another SpoolError when nothing was queued.
        """
        now = self._clock.now()
        incoming = [incoming_row(row, now, self.settings.max_cost_usd) for row in rows]
        return self._process.writer.submit(
            partial(queue_rows, rows=incoming, max_bytes=self.settings.max_bytes)
        )

    def track(self, event: UsageEvent) -> None:
        """Store a generation that has begun, or what is known of it by now, without waiting.

        `event` is the pending event to book if nothing better comes. It outlives the process
        as soon as the writer has come to it, a power loss a second later.
        """
        now = self._clock.now()
        row = incoming_row(event, now, self.settings.max_cost_usd)
        owner = self._process.owner
        seen_ms = to_ms(now)
        self._process.writer.submit(
            lambda tx: upsert_open_generation(tx, row, owner, seen_ms), is_awaited=False
        )

    def touch(self, request_ids: Sequence[str]) -> None:
        """Keep open generations of this process from expiring; costs a microsecond, no disk."""
        self._process.touch(request_ids)

    def expire_open(self, now: datetime, idle_timeout_seconds: float) -> int:
        """Book generations as pending that this process has not seen for so long; returns how many.

        With the lease, also those of processes that have been silent a minute longer.
        """
        process = self._process
        return self._wait(lambda tx: process.expire(tx, now, idle_timeout_seconds))

    def take(self, limit: int, after_row_id: int = 0) -> list[SpooledRow]:
        """Return the oldest queued rows, at most `limit`, without changing them."""
        with self._reading() as db:
            return read_queued(db, limit, after_row_id)

    def acknowledge(
        self,
        accepted: Sequence[int] = (),
        rejected: Sequence[tuple[int, str]] = (),
        kept: Sequence[int] = (),
    ) -> None:
        """End a delivery: accepted rows are done, rejected ones are put aside, kept ones wait.

        Acknowledging a row twice changes nothing; a crash in between leaves rows queued.
        """
        changes: tuple[tuple[Callable[..., None], Sequence[Any]], ...] = (
            (accept_rows, accepted),
            (reject_rows, rejected),
            (keep_rows, kept),
        )
        for change, rows in changes:
            done = 0
            while done < len(rows):
                done += self._wait(partial(acknowledge_slice, change=change, rows=rows[done:]))

    def lease(self, owner: str, seconds: float) -> bool:
        """Become or stay the one that delivers this spool; False while another one is."""
        process = self._process
        return self._wait(lambda tx: process.lease(tx, owner, seconds))

    def release(self, owner: str) -> None:
        """Give up the lease."""
        self._wait(lambda tx: release_lease(tx, owner))

    def status(self) -> SpoolStatus:
        """Return counts as of now; its counters are totals of all processes, ever."""
        with self._reading() as db:
            return read_status(db, self._process.counters.unsaved(), self.settings.max_bytes)

    def counters(self) -> dict[str, int]:
        """Return what this process counted since it began."""
        return self._process.counters.totals()

    def count(self, reason: str, by: int = 1) -> None:
        """Count an event outside the file; the next commit stores it."""
        self._process.counters.add(reason, by)

    def hosts(self) -> list[HostRow]:
        """Return the newest row of every host that used this spool in the last weeks."""
        with self._reading() as db:
            return read_hosts(db)

    def dead_letters(
        self,
        states: Collection[AsideState] = _ASIDE_STATES,
        kinds: Collection[str] = _ROW_KINDS,
    ) -> Iterator[DeadLetter]:
        """Return the rows that were put aside, the oldest first, with the reason."""
        return letters_by_page(self._reading, partial(read_letters, states=states, kinds=kinds))

    def replay(
        self,
        states: Collection[AsideState] = _ASIDE_STATES,
        kinds: Collection[str] = _ROW_KINDS,
    ) -> int:
        """Queue rows again that were put aside; returns how many."""
        return self._wait(lambda tx: replay_rows(tx, states, kinds))

    def export(self) -> Iterator[str]:
        """Return every row of the file, in whatever state, as lines of JSON."""
        return (row.to_line() for row in letters_by_page(self._reading, read_everything))

    def close(self) -> None:
        """Commit what waits, for at most the time of the settings, and end the writer thread."""
        writer = self._process.writer
        writer.stop()
        writer.join(self.settings.close_seconds)

    @property
    def _process(self) -> SpoolProcess:
        # Without a lock: a fork may have copied one that is held. The parent's entry is kept, for
        # its connection must not be closed here.
        process_id = os.getpid()
        found = self._processes.get(process_id)
        if found is None:
            found = SpoolProcess(self.path, self.settings, self._clock)
            found = self._processes.setdefault(process_id, found)
        return found

    def _wait(self, run: Callable[[SpoolTransaction], SpoolAnswer]) -> SpoolAnswer:
        try:
            return self._process.writer.submit(run).result(_DISK_ANSWER_SECONDS)
        except TimeoutError:
            raise SpoolError(f"{self.path}: no answer from the disk") from None

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._process.file.reading() as db:
                yield db
        except (*SPOOL_FILE_ERRORS, sqlite3.Error, OSError) as error:
            raise SpoolError(f"{self.path}: {error}") from error


def _stop_writers(processes: dict[int, SpoolProcess]) -> None:
    mine = processes.get(os.getpid())
    if mine is not None:
        mine.writer.stop()


async def put_within(
    spool: SqliteSpool, rows: Sequence[Row], seconds: float = 0.25
) -> list[PutOutcome] | None:
    """Queue rows and wait for the disk, but not longer than this; None when it took longer.

    An overrun is counted and the commit goes on. Raises SpoolError when nothing was queued.
    """
    future = spool.put(rows)
    loop = asyncio.get_running_loop()
    is_over = loop.create_future()
    # asyncio's own wrap_future and wait do the same, and take half as long again as the put.
    future.add_done_callback(partial(_call_loop, loop, is_over))
    timer = loop.call_later(seconds, _wake_hook, is_over)
    try:
        await is_over
    finally:
        timer.cancel()
    if not future.done():
        spool.count("overrun")
        return None
    return future.result()


def _call_loop(
    loop: asyncio.AbstractEventLoop, is_over: asyncio.Future[None], _done: Future[Any]
) -> None:
    # The loop may have been closed meanwhile: nobody waits any more.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_wake_hook, is_over)


def _wake_hook(is_over: asyncio.Future[None]) -> None:
    if not is_over.done():
        is_over.set_result(None)


# --------------------------------------------------------------------------------------------------
# pipelines/src/spool_session.py
#
# A spool in use: the settings it was opened with, what is counted, and its thread.
# --------------------------------------------------------------------------------------------------


HostKind = Literal["function", "pipeline"]
Overdue = Callable[[PluginSettings, datetime], Sequence[Row]]
# From an organization and the time: an event and the problem of its cost, or InvalidEvent.
Draft = Callable[[str, datetime], tuple[UsageEvent, str | None]]

# 250 ms in all: in a Function a hook may have waited for the host's own settings before.
WAIT_SECONDS: Mapping[HostKind, float] = {"function": 0.2, "pipeline": 0.25}
TICK_SECONDS = 1.0
_REFRESH_SECONDS = 30.0
# A host without its plugin is noticed within a minute.
_HEARTBEAT_SECONDS = 20.0
_LEASE_SECONDS = 10.0
# How long a stopped session stays open for hooks that still use it, and how often it looks.
_HOOKS_SECONDS, _HOOKS_POLL_SECONDS = 10.0, 0.01
_LAST_STEP_SECONDS = 0.1
_LOG_INTERVAL_SECONDS = 20.0
_LOGGED_REASONS_MAX = 256


class Counters:
    """Totals since the plugin was loaded, by reason; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, int] = {}
        self._logged_at: dict[str, float] = {}

    def count(self, reason: str) -> None:
        with self._lock:
            self._totals[reason] = self._totals.get(reason, 0) + 1

    def warn_throttled(self, reason: str, detail: object) -> None:
        """Count, and log each reason at most every 20 s: an outage must not fill the host's disk.

        `detail` names what happened, never what a person wrote.
        """
        self.count(reason)
        now = time.monotonic()
        with self._lock:
            if now - self._logged_at.get(reason, float("-inf")) < _LOG_INTERVAL_SECONDS:
                return
            if len(self._logged_at) >= _LOGGED_REASONS_MAX:
                self._logged_at.clear()
            self._logged_at[reason] = now
        logger.warning("%s: %s", reason, detail)

    def totals(self) -> dict[str, int]:
        with self._lock:
            return dict(self._totals)


@dataclass(frozen=True, kw_only=True)
class Host:
    """The identity of a loaded plugin in its heartbeats."""

    kind: HostKind
    host_id: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class PluginStatus:
    """How a plugin is doing.

    `counters` are those of its hooks and its thread, the spool counts for itself. `spool` is None
    when the file cannot be read, `delivery` when the sidecar delivers.
    """

    message: str
    counters: Mapping[str, int]
    spool_path: Path
    spool: SpoolStatus | None
    spool_counters: Mapping[str, int]
    delivery: DeliveryStatus | None


class SpoolSession:
    """A spool in use. Its thread holds no reference to the plugin, so that the host can drop it.

    Hooks use it as a context manager: it stays open while one of them is in it. `overdue` returns
    the rows that time alone makes due. `stop` may be called from any thread and does not wait; the
    thread commits what waits and closes the spool.
    """

    def __init__(
        self,
        host: Host,
        settings: PluginSettings,
        clock: Clock,
        counters: Counters,
        overdue: Overdue,
    ) -> None:
        self.host = host
        self.settings = settings
        self.clock = clock
        self.open = OpenGenerations()
        self.spool = SqliteSpool(
            settings.spool_dir / f"{host.kind}.sqlite3",
            settings=SpoolSettings(
                max_bytes=settings.spool_max_bytes, max_cost_usd=settings.max_cost_usd
            ),
            clock=clock,
        )
        self._counters = counters
        self._overdue = overdue
        self._hook_latencies = Latencies()
        # One entry per hook that uses the session: appending and popping need no lock.
        self._hooks: list[None] = []
        self._stopping = threading.Event()
        self._sink = InfluxSink(settings.influx) if settings.influx is not None else None
        self._delivery = self._make_delivery()
        self._thread: threading.Thread | None = None
        self._closed: Future[None] = Future()
        self._delivery_thread: DeliveryThread | None = None

    def start(self) -> None:
        """Begin to look after the spool, and to deliver it if this host does."""
        if self._delivery is not None:
            self._delivery_thread = DeliveryThread(
                self._delivery, self._stopping, self.settings.flush_seconds
            )
            self._delivery_thread.start()
        self._thread = threading.Thread(
            target=self._keep, name=f"owui_usage {self.host.kind}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread soon, without waiting for it."""
        self._stopping.set()

    def join(self, seconds: float) -> bool:
        """Wait until the thread has closed the spool; False when that takes longer."""
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    async def closed(self, seconds: float) -> bool:
        """Wait as `join` does, without blocking the event loop."""
        if self._thread is not None:
            await asyncio.wait({asyncio.wrap_future(self._closed)}, timeout=seconds)
        return self.join(_LAST_STEP_SECONDS)

    def __enter__(self) -> Self:
        self._hooks.append(None)
        return self

    def __exit__(self, *_error: object) -> None:
        self._hooks.pop()

    async def book(self, draft: Draft) -> UsageEvent | None:
        """Build an event and queue it durably; return it when others may rely on it."""
        event = self._build(draft)
        return event if event is not None and await self.put([event]) else None

    def track(self, draft: Draft) -> None:
        """Remember a generation that has begun, without waiting for the disk."""
        event = self._build(draft)
        if event is not None:
            self.spool.track(event)

    async def put(self, rows: Sequence[Row]) -> bool:
        """Queue rows durably; True when they are in the spool, or will be in a moment.

        An answer never waits longer than `WAIT_SECONDS` for a slow disk, the commit goes on.
        """
        if not rows:
            return True
        began = time.perf_counter()
        try:
            outcomes = await put_within(self.spool, rows, WAIT_SECONDS[self.host.kind])
        except SpoolError as error:
            self._counters.warn_throttled("not_spooled", error)
            return False
        self._hook_latencies.add((time.perf_counter() - began) * 1000)
        return outcomes is None or "refused" not in outcomes

    def status(self) -> PluginStatus:
        delivery = self._delivery.status() if self._delivery is not None else None
        try:
            spool = self.spool.status()
        except SpoolError:
            spool = None
        return PluginStatus(
            message=self._message(delivery),
            counters=self._counters.totals(),
            spool_path=self.spool.path,
            spool=spool,
            spool_counters=self.spool.counters(),
            delivery=delivery,
        )

    def heartbeat(self) -> HostRow:
        """Return the row by which the sidecar knows how this host is doing."""
        spool = self.spool.status()
        delivery = self._delivery.status() if self._delivery is not None else None
        now = self.clock.now()
        oldest = spool.oldest_queued_at
        return HostRow(
            host_id=self.host.host_id,
            occurred_at=now,
            host_kind=self.host.kind,
            version=VERSION,
            started_at=self.host.started_at,
            delivery_state=delivery.state if delivery else "spooling",
            breaker=delivery.breaker if delivery else "closed",
            message=self._message(delivery),
            queued=spool.queued,
            dead_letters=spool.dead_letters,
            oldest_age_seconds=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
            hook_p50_ms=self._hook_latencies.percentile(50),
            hook_p99_ms=self._hook_latencies.percentile(99),
            write_p50_ms=delivery.write_p50_ms if delivery else None,
            write_p99_ms=delivery.write_p99_ms if delivery else None,
            counters={**self.spool.counters(), **self._counters.totals()},
        )

    def _build(self, draft: Draft) -> UsageEvent | None:
        try:
            event, cost_problem = draft(self.settings.client_org_id, self.clock.now())
        except InvalidEvent as error:
            self._counters.warn_throttled(f"refused_{error.field}", error.reason)
            return None
        if cost_problem is not None:
            reason = f"cost_{cost_problem}"
            self._counters.warn_throttled(reason, f"{event.request_id} is pending")
        return event

    def _message(self, delivery: DeliveryStatus | None) -> str:
        messages = list(self.settings.problems)
        if delivery is not None and delivery.message != "ok":
            messages.append(delivery.message)
        return "; ".join(messages) or "ok"

    def _make_delivery(self) -> Delivery | None:
        if self._sink is None:
            return None
        policy = DeliveryPolicy(batch_rows=self.settings.batch_rows)
        owner = self.host.host_id
        return Delivery(self.spool, self._sink, owner, self.clock, policy, self._stopping)

    def _keep(self) -> None:
        shortest = min(self.settings.quiet_seconds, self.settings.answer_wait_seconds) / 4
        tick, refresh = min(TICK_SECONDS, shortest), min(_REFRESH_SECONDS, shortest)
        duties: list[tuple[Callable[[], None], float]] = [
            (self._put_overdue, tick),
            (self._refresh, refresh),
            (self._expire, refresh),
            (self._send_heartbeat, _HEARTBEAT_SECONDS),
        ]
        due = [time.monotonic()] * len(duties)
        while not self._stopping.wait(tick):
            for index, (duty, seconds) in enumerate(duties):
                if time.monotonic() >= due[index]:
                    due[index] = time.monotonic() + seconds
                    self._perform(duty)
        self._wait_for_hooks()
        for duty in (self._refresh, self._send_heartbeat, self._end_delivery, self.spool.close):
            self._perform(duty)
        self._closed.set_result(None)

    def _wait_for_hooks(self) -> None:
        deadline = time.monotonic() + _HOOKS_SECONDS
        while self._hooks and time.monotonic() < deadline:
            time.sleep(_HOOKS_POLL_SECONDS)

    def _end_delivery(self) -> None:
        if self._delivery_thread is not None and self._delivery_thread.stop() and self._sink:
            self._sink.close()

    def _perform(self, duty: Callable[[], None]) -> None:
        name = getattr(duty, "__name__", "duty").strip("_")
        try:
            duty()
        except UsageError as error:
            self._counters.warn_throttled(f"failed_{name}", error)
        except Exception as error:  # noqa: BLE001 the thread must outlive whatever one duty meets
            self._counters.warn_throttled(f"failed_{name}", type(error).__name__)

    def _put_overdue(self) -> None:
        if rows := self._overdue(self.settings, self.clock.now()):
            self.spool.put(rows)

    def _refresh(self) -> None:
        """Keep living generations open, and store how far their running totals have come."""
        for event in self.open.take_grown(self.settings.client_org_id, self.clock.now()):
            self.spool.track(event)
        self.spool.touch(self.open.take_seen())

    def _expire(self) -> None:
        """Book as pending what stayed open, also that of a process that is gone.

        Only who delivers a spool may do the latter: where the sidecar is not there to deliver,
        a short lease makes it this host.
        """
        is_lent = self._delivery is None and self.spool.lease(self.host.host_id, _LEASE_SECONDS)
        try:
            self.spool.expire_open(self.clock.now(), self.settings.quiet_seconds)
        finally:
            if is_lent:
                self.spool.release(self.host.host_id)

    def _send_heartbeat(self) -> None:
        self.spool.put([self.heartbeat()])


# --------------------------------------------------------------------------------------------------
# pipelines/src/function/stream.py
#
# The chunks of a stream: a generation is tracked from its first, and booked with its usage.
# --------------------------------------------------------------------------------------------------


class StreamedAnswer(NamedTuple):
    """An answer as a hook meets it: the session of the hook, the answer's state and metadata."""

    session: SpoolSession
    state: dict[str, Any]
    metadata: dict[str, Any]


class StreamCapture:
    """Books the generations of all answers; what it knows of one stands in its metadata."""

    def __init__(self) -> None:
        self._keys = ConnectionKeys()

    async def take(
        self, session: SpoolSession, chunk: dict[str, Any], metadata: dict[str, Any]
    ) -> None:
        """Take a chunk of a generation of OpenRouter."""
        answer = StreamedAnswer(session, await self.state(metadata), metadata)
        if answer.state["id"] != chunk["id"]:
            await self.put_total(answer)
            answer.state.update(id=chunk["id"], finish=None)
            if not chunk.get("usage") or is_running_total(chunk):
                answer.state["first"] = without_content(chunk)
                session.track(partial(generation_event, chunk, metadata))
        usage = chunk.get("usage")
        if isinstance(usage, dict) and usage:
            await _take_usage(answer, chunk)

    async def state(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return the state of an answer, which holds the hash of the key that pays for it."""
        state = answer_state(metadata)
        if state[KEY_HASH] is None:
            index = state[CONNECTION]
            if type(index) is not int:
                index = connection_index(metadata)
            state[KEY_HASH] = await self._keys.hash_of(index)
        return state

    async def put_total(self, answer: StreamedAnswer) -> None:
        """Book the last running total of a generation that has ended."""
        total, answer.state["total"] = answer.state["total"], None
        if total:
            await _book_generation(answer, total)

    def name_answer(self, answer: StreamedAnswer, body: dict[str, Any]) -> None:
        """Give a generation that ended without usage the name that its answer has only now.

        A Pipelines outlet of the API, which sees no generation, lists the answer under this name.
        """
        first = answer.state["first"]
        if first and not answer.metadata.get("message_id"):
            named = {**answer.metadata, "message_id": openwebui_id(body.get("id"))}
            answer.session.track(partial(generation_event, first, named))


async def _take_usage(answer: StreamedAnswer, chunk: dict[str, Any]) -> None:
    """Book the usage of a chunk, unless it may still grow; leave the ids beside it."""
    state, usage = answer.state, chunk["usage"]
    if is_running_total(chunk):
        state["total"] = without_content(chunk)
        answer.session.open.grew(state["total"], answer.metadata)
        usage[LEDGER_KEY] = [*state["booked"], chunk["id"]]
        return
    state["total"] = None
    await _book_generation(answer, chunk)
    if state["booked"]:
        usage[LEDGER_KEY] = list(state["booked"])


async def _book_generation(answer: StreamedAnswer, chunk: dict[str, Any]) -> None:
    """Book a generation; only what the spool took is left as booked for others to see."""
    session, state, metadata = answer
    state["first"] = None
    draft = partial(generation_event, chunk, metadata, finish_reason=state["finish"])
    leave_booked(state, await session.book(draft))


# --------------------------------------------------------------------------------------------------
# pipelines/src/recorder.py
#
# The recorder of one plugin: one spool session that fits the valves, a new one on change.
# --------------------------------------------------------------------------------------------------


def nothing_overdue(_settings: PluginSettings, _now: datetime) -> Sequence[Row]:
    return ()


class Recorder:
    """Gives every hook the session for the valves of its moment.

    Nothing touches the disk and no thread starts before the first hook runs. When a host without
    shutdown hook drops the plugin, its session ends by itself.
    """

    def __init__(
        self,
        kind: HostKind,
        default_dir: Callable[[], Path],
        overdue: Overdue = nothing_overdue,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.counters = Counters()
        self.clock = clock
        self._default_dir = default_dir
        self._overdue = overdue
        self._host = Host(
            kind=kind, host_id=f"{kind}-{secrets.token_hex(4)}", started_at=clock.now()
        )
        self._valves: UsageValves | None = None
        self._session: SpoolSession | None = None
        self._process_id = os.getpid()
        self._is_ended = False
        self._finalizer: weakref.finalize[[], Recorder] | None = None

    def session_for(self, valves: UsageValves) -> SpoolSession:
        """Return the session for these valves; the host may set equal ones before every call."""
        session = self._session
        if session is not None and valves is self._valves and os.getpid() == self._process_id:
            return session
        settings = read_settings(valves, os.environ, self._default_dir())
        if session is None or session.settings != settings or os.getpid() != self._process_id:
            session = self._begin(settings)
        self._valves = valves
        return session

    def saw(self, generation_id: str) -> None:
        """Note that a chunk of an open generation came."""
        if self._session is not None:
            self._session.open.saw(generation_id)

    def stop(self) -> SpoolSession | None:
        """End the session; return it, so that the host can wait for it.

        A hook that begins later finds its spool, but no thread begins again.
        """
        self._is_ended = True
        return self._end()

    def _end(self) -> SpoolSession | None:
        session, self._session, self._valves = self._session, None, None
        if session is not None:
            session.stop()
        return session

    def _begin(self, settings: PluginSettings) -> SpoolSession:
        if os.getpid() == self._process_id:
            self._end()
        else:
            # A forked child is another host, and its parent's session is not its to end.
            host_id = f"{self._host.kind}-{secrets.token_hex(4)}"
            self._host = replace(self._host, host_id=host_id, started_at=self.clock.now())
        self._process_id = os.getpid()
        for problem in settings.problems:
            self.counters.warn_throttled("wrong_setting", problem)
        session = SpoolSession(self._host, settings, self.clock, self.counters, self._overdue)
        if not self._is_ended:
            session.start()
            if self._finalizer is not None:
                self._finalizer.detach()
            self._finalizer = weakref.finalize(self, session.stop)
            # At the end of the process the spool's writer commits what waits.
            self._finalizer.atexit = False
        self._session = session
        return session


# --------------------------------------------------------------------------------------------------
# pipelines/src/user_directory.py
#
# Names of users: queued once per process and change, kept apart from the events.
# --------------------------------------------------------------------------------------------------


_USERS_MAX = 10_000
_NAME_MAX = 320


class UserDirectory:
    """Remembers the names it returned, so that one goes to the spool once and not per answer."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, tuple[str | None, str | None]] = OrderedDict()

    def row(self, user: object, now: datetime) -> UserRow | None:
        """Return the row of a user who is new or has changed name or address."""
        user_id = host_user_id(user)
        name = short_text(json_object(user).get("name"), _NAME_MAX)
        email = short_text(json_object(user).get("email"), _NAME_MAX)
        if not user_id or not (name or email):
            return None
        row = UserRow(user_id=user_id, occurred_at=now, name=name, email=email)
        # Not compared by event_id, which changes every day.
        names = (row.name, row.email)
        if self._names.get(user_id) == names:
            return None
        self._names[user_id] = names
        self._names.move_to_end(user_id)
        while len(self._names) > _USERS_MAX:
            self._names.popitem(last=False)
        return row


# --------------------------------------------------------------------------------------------------
# pipelines/src/function/filter.py
#
# The Function filter, inside Open WebUI: one event per streamed generation.
# --------------------------------------------------------------------------------------------------


# Any signed-in user may post any body here, usage included: it books nothing.
_REPLAY_PATH = "/api/chat/completed"


def function_spool_dir() -> Path:
    """Return a folder beside Open WebUI's own data."""
    data_dir = getattr(sys.modules.get("open_webui.env"), "DATA_DIR", None)
    return Path(data_dir or os.environ.get("DATA_DIR") or "data") / "usage"


class Filter:
    """Books every OpenRouter generation of this Open WebUI, streamed or not, exactly.

    No hook ever raises or changes the chat: `stream` only adds the ids it booked to the usage
    object, so that a Pipelines filter beside it books nothing twice.
    """

    Valves = FunctionValves
    UserValves = FunctionUserValves

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._in_flight = AnswersInFlight()
        self._users = UserDirectory()
        self._recorder = Recorder(
            "function", function_spool_dir, partial(expired_rows, self._in_flight.memory)
        )
        self._streams = StreamCapture()

    def status(self) -> PluginStatus:
        """Return counters, queue and delivery; opens the spool if no hook has."""
        return self._recorder.session_for(self.valves).status()

    async def inlet(
        self,
        body: dict[str, Any],
        __metadata__: dict[str, Any] | None = None,
        __model__: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Remember that an answer begins: it is billed even if no hook ever shows it."""
        try:
            if isinstance(body, dict) and isinstance(__metadata__, dict):
                session = self._recorder.session_for(self.valves)
                self._take_request(session, body, __metadata__, __model__)
        except Exception as error:  # noqa: BLE001 a raising inlet kills the chat
            self._recorder.counters.warn_throttled("failed_inlet", type(error).__name__)
        return body

    async def stream(
        self, event: dict[str, Any], __metadata__: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Track a generation from its first chunk, book it on the chunk that has its usage.

        Runs for every chunk on the event loop of the host: a chunk without usage costs
        microseconds.
        """
        try:
            if not isinstance(event, dict) or not isinstance(__metadata__, dict):
                return event
            state = __metadata__.get(LEDGER_KEY)
            if (
                isinstance(state, dict)
                and isinstance(event.get("id"), str)
                and state.get("id") == event["id"]
                and not event.get("usage")
            ):
                self._recorder.saw(state["id"])
                if finish := chunk_finish_reason(event):
                    state["finish"] = finish
            else:
                await self._take_event(event, __metadata__)
        except Exception as error:  # noqa: BLE001 a raising stream hook empties the answer
            self._recorder.counters.warn_throttled("failed_stream", type(error).__name__)
        return event

    async def outlet(
        self,
        body: dict[str, Any],
        __metadata__: dict[str, Any] | None = None,
        __model__: dict[str, Any] | None = None,
        __user__: dict[str, Any] | None = None,
        __request__: Any = None,
        __event_emitter__: EventEmitter | None = None,
    ) -> dict[str, Any]:
        """Book an answer that was not streamed, and what a stream left as a running total.

        Shows what the answer cost to a user who wants to see it.
        """
        try:
            if getattr(getattr(__request__, "url", None), "path", "") == _REPLAY_PATH:
                self._recorder.counters.count("ignored_replay")
            elif isinstance(__metadata__, dict):
                with self._recorder.session_for(self.valves) as session:
                    await self._take_answer(session, json_object(body), __metadata__, __model__)
                    self._put_name(session, __user__)
                show_cost(__metadata__, __user__, __event_emitter__)
        except Exception as error:  # noqa: BLE001 the answer must not depend on its bookkeeping
            self._recorder.counters.warn_throttled("failed_outlet", type(error).__name__)
        return body

    def _take_request(
        self, session: SpoolSession, body: dict[str, Any], metadata: dict[str, Any], model: object
    ) -> None:
        own = _with_own_model(metadata, model)
        answer_state(metadata)[CONNECTION] = connection_index(own)
        evicted = self._in_flight.begin(body, metadata, _read_inlet(session, own, body))
        if rows := unmetered_rows(evicted, session.settings):
            session.spool.put(rows)

    async def _take_event(self, event: dict[str, Any], metadata: dict[str, Any]) -> None:
        chunk = generation_chunk(event)
        if is_openrouter_generation(chunk, metadata):
            with self._recorder.session_for(self.valves) as session:
                await self._streams.take(session, chunk, metadata)
            self._in_flight.complete(metadata)
        elif is_response_event(event):
            # Most events of the Responses API do not name their generation.
            generation_id = json_object(metadata.get(LEDGER_KEY)).get("id")
            if isinstance(generation_id, str):
                self._recorder.saw(generation_id)

    async def _take_answer(
        self, session: SpoolSession, body: dict[str, Any], metadata: dict[str, Any], model: object
    ) -> None:
        state, begun = answer_state(metadata), self._in_flight.complete(metadata)
        if state["id"] is not None or state["booked"]:
            streamed = StreamedAnswer(session, state, metadata)
            await self._streams.put_total(streamed)
            self._streams.name_answer(streamed, body)
            return
        usage = json_object(answer_message(body).get("usage"))
        own = {**_with_own_model(metadata, model), "message_id": body.get("id")}
        inlet = _read_inlet(session, own, body)
        if begun is not None:
            inlet = replace(inlet, at=begun.at)
        is_metered = inlet.billing in ("openrouter", "named") or has_openrouter_usage(usage)
        if usage and is_metered:
            if begun is not None and inlet.is_continued:
                total_tokens = parse_usage(usage, merged=True).total_tokens
                inlet = self._in_flight.memory.disambiguate(inlet, total_tokens)
            await self._book_answer(session, body, metadata, inlet)
        elif not usage and (begun or is_metered):
            await session.put(unmetered_rows([inlet], session.settings))

    async def _book_answer(
        self, session: SpoolSession, body: dict[str, Any], metadata: dict[str, Any], inlet: Inlet
    ) -> None:
        state = await self._streams.state(metadata)
        answer = CapturedAnswer(
            source="function",
            user=inlet.user,
            body=body,
            message=answer_message(body),
            api_key_hash=state[KEY_HASH],
        )
        leave_booked(state, await session.book(partial(turn_event, answer, inlet)))

    def _put_name(self, session: SpoolSession, user: object) -> None:
        """Hand the name of a user to the spool without waiting: no money depends on it."""
        if session.settings.user_directory:
            row = self._users.row(user, session.clock.now())
            if row is not None:
                session.spool.put([row])


def _read_inlet(session: SpoolSession, metadata: dict[str, Any], body: dict[str, Any]) -> Inlet:
    return read_inlet(
        metadata,
        short_text(body.get("model")),
        short_text(metadata.get("user_id")),
        session.clock.now(),
        host_model_record,
        session.settings.extra_connections,
    )


def _with_own_model(metadata: dict[str, Any], model: object) -> dict[str, Any]:
    """Return the metadata with the model record of this very answer.

    When several models answer side by side, the host leaves the first one's record in all.
    """
    return {**metadata, "model": model} if json_object(model) else metadata


# --------------------------------------------------------------------------------------------------
# pipelines/src/pipeline/state_file.py
#
# The memory of answers in flight, handed to the next plugin: an upload restarts all of them.
# --------------------------------------------------------------------------------------------------


_STATE_MAX_BYTES = 32 * 1024**2


def save_state(memory: InletMemory, path: Path) -> None:
    """Write what a memory knows, for `load_state` of the next one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = TypeAdapter(MemorySnapshot).dump_json(memory.export())
    unfinished = path.with_suffix(".tmp")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    unfinished.replace(path)


def load_state(memory: InletMemory, path: Path) -> None:
    """Read what the last plugin left, once; there is nothing after a crash.

    Raises OSError, or ValueError when the file is damaged.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        text = file.read(_STATE_MAX_BYTES)
    path.unlink()
    memory.restore(TypeAdapter(MemorySnapshot).validate_json(text))


# --------------------------------------------------------------------------------------------------
# pipelines/src/pipeline/filter.py
#
# The Pipelines filter: background tasks, merged usage of answers, identities for OpenRouter.
# --------------------------------------------------------------------------------------------------


# The delivery may finish a write and the spool a commit, five seconds each.
_CLOSE_SECONDS = 11.0


def pipeline_spool_dir() -> Path:
    """Return the folder that the Pipelines server keeps for this plugin."""
    return Path(os.environ.get("PIPELINES_DIR") or "./pipelines") / "openrouter_usage_filter"


class Pipeline:
    """Books answers from their merged usage, and lists every background task as unmetered.

    No hook ever raises. `inlet` adds identities to requests that go to OpenRouter and nothing else;
    `outlet` changes nothing.
    """

    def __init__(self) -> None:
        self.type = "filter"
        self.name = "OpenRouter usage ledger"
        self.valves = PipelineValves()
        self._memory = InletMemory()
        self._users = UserDirectory()
        self._recorder = Recorder(
            "pipeline", pipeline_spool_dir, partial(expired_rows, self._memory)
        )

    def status(self) -> PluginStatus:
        """Return counters, queue and delivery; opens the spool if no hook has."""
        return self._recorder.session_for(self.valves).status()

    async def on_startup(self) -> None:
        """Start the session, and wait for the answers that the plugin before was waiting for."""
        await self.on_valves_updated()
        try:
            load_state(self._memory, self._state_path())
        except Exception as error:  # noqa: BLE001 the server would not start
            self._recorder.counters.warn_throttled("failed_takeover", type(error).__name__)

    async def on_valves_updated(self) -> None:
        """Apply the new valves at once."""
        try:
            self._recorder.session_for(self.valves)
        except Exception as error:  # noqa: BLE001 the server would answer 500
            self._recorder.counters.warn_throttled("failed_start", type(error).__name__)

    async def on_shutdown(self) -> None:
        """Save what is known of answers in flight, and leave no thread behind."""
        try:
            save_state(self._memory, self._state_path())
            session = self._recorder.stop()
            if session is not None:
                await session.closed(_CLOSE_SECONDS)
        except Exception as error:  # noqa: BLE001 the other plugins must still be shut down
            self._recorder.counters.warn_throttled("failed_shutdown", type(error).__name__)
            self._recorder.stop()

    async def inlet(
        self, body: dict[str, Any], user: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Remember an answer's request, list a background task, add identities for OpenRouter."""
        try:
            if isinstance(body, dict):
                with self._recorder.session_for(self.valves) as session:
                    await self._take_request(session, body, user)
        except Exception as error:  # noqa: BLE001 a raising inlet kills the chat
            self._recorder.counters.warn_throttled("failed_inlet", type(error).__name__)
        return body

    async def outlet(
        self, body: dict[str, Any], user: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Book the answer this outlet is about, unless a Function filter has booked it."""
        try:
            if message := answer_message(json_object(body)):
                with self._recorder.session_for(self.valves) as session:
                    await self._take_answer(session, body, message, user)
            else:
                self._recorder.counters.count("ignored_outlet")
        except Exception as error:  # noqa: BLE001 the answer must not depend on its bookkeeping
            self._recorder.counters.warn_throttled("failed_outlet", type(error).__name__)
        return body

    def _state_path(self) -> Path:
        # The server names the module after the file: a second copy of it has its own memory.
        name = f"{type(self).__module__}.inlets.json"
        return self._recorder.session_for(self.valves).settings.spool_dir / name

    async def _take_request(
        self, session: SpoolSession, body: dict[str, Any], user: object
    ) -> None:
        metadata, settings = json_object(body.get("metadata")), session.settings
        record = read_model_record(metadata.get("model"))
        if record is not None:
            self._memory.learn(record)
        inlet = self._read_inlet(session, metadata, body, user)
        if inlet.is_continued:
            inlet = replace(inlet, at=continuation_began(metadata, inlet.at))
        if inlet.billing == "openrouter":
            _add_identities(body, inlet, settings)
        rows: list[Row] = []
        if inlet.task != "chat":
            rows += unmetered_rows([inlet], settings, task_id(metadata))
        elif inlet.chat_id and inlet.message_id:
            rows += unmetered_rows(self._memory.remember(inlet), settings)
        person = self._users.row(user, inlet.at) if settings.user_directory else None
        if person is not None:
            rows.append(person)
        await session.put(rows)

    async def _take_answer(
        self, session: SpoolSession, body: dict[str, Any], message: Mapping[str, Any], user: object
    ) -> None:
        ids = {
            "chat_id": openwebui_id(body.get("chat_id")),
            "message_id": openwebui_id(body.get("id")),
        }
        remembered = self._memory.complete(**ids)
        inlet = remembered or self._read_inlet(session, ids, body, user)
        usage = json_object(message.get("usage"))
        is_metered = inlet.billing in ("openrouter", "named")
        if self._is_booked(inlet, ledger_ids(usage)):
            self._recorder.counters.count("booked_by_function")
        elif usage and (is_metered or has_openrouter_usage(usage)):
            if remembered is None and is_merged_wrongly(message):
                # It may well be continued: then the name of its beginning is taken.
                inlet = replace(inlet, is_continued=bool(inlet.chat_id))
            elif inlet.is_continued:
                total_tokens = parse_usage(usage, merged=True).total_tokens
                inlet = self._memory.disambiguate(inlet, total_tokens)
            answer = CapturedAnswer(
                source="pipeline", user=host_user_id(user), body=body, message=message
            )
            await session.book(partial(turn_event, answer, inlet))
        elif not usage and (remembered or is_metered):
            await session.put(unmetered_rows([inlet], session.settings))

    def _is_booked(self, inlet: Inlet, generation_ids: list[str]) -> bool:
        """Return whether a Function booked this answer, not only what it continues."""
        if not generation_ids:
            return False
        has_new = self._memory.has_new_ids(inlet, generation_ids)
        if not inlet.is_continued:
            return True
        return is_fresh(generation_ids, inlet) if has_new is None else has_new

    def _read_inlet(
        self, session: SpoolSession, metadata: dict[str, Any], body: dict[str, Any], user: object
    ) -> Inlet:
        return read_inlet(
            metadata,
            short_text(body.get("model")),
            host_user_id(user),
            session.clock.now(),
            self._memory.record,
            session.settings.extra_connections,
        )


def _add_identities(body: dict[str, Any], inlet: Inlet, settings: PluginSettings) -> None:
    """Name user, chat and task to OpenRouter, never over what the caller sent."""
    if settings.add_user and inlet.user:
        body.setdefault("user", inlet.user)
    if settings.add_session_id and inlet.chat_id:
        body.setdefault("session_id", inlet.chat_id)
    if settings.add_trace:
        trace = {
            "owui_chat_id": inlet.chat_id,
            "owui_message_id": inlet.message_id,
            "owui_task": inlet.task,
        }
        body.setdefault("trace", {name: value for name, value in trace.items() if value})
