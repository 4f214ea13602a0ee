"""Line protocol: how rows are written down for InfluxDB, and which columns hold them."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from pydantic_core import from_json

from shared.core.event import PICO_FIELDS, TOKENS
from shared.core.ids import canonical_json, generation_seconds
from shared.core.rows import row_from_json
from shared.core.time import to_ms
from shared.errors import InvalidEvent

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
FIELDS: Mapping[str, tuple[str, ...]] = {
    kind: (
        *INTEGER_FIELDS[kind],
        *RARE_INTEGER_FIELDS[kind],
        *FLOAT_FIELDS[kind],
        *LABEL_FIELDS[kind],
        *STRING_FIELDS[kind],
        "occurred_at_ms",
    )
    for kind in TAGS
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
