"""Identity: what makes two observations the same event, and two events the same bill."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b, sha256
from json import JSONEncoder

from shared.core.time import to_ms
from shared.errors import InvalidEvent

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


def is_part_request_id(request_id: str) -> bool:
    """Tell whether `part_request_id` made this id."""
    return request_id.startswith("turn:") and request_id.rpartition(":")[2].startswith("@")


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
