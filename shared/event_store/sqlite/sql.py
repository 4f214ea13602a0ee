"""The SQL that the embedded event store reads with, and how its answers become values."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

from shared.core.amounts import Amounts
from shared.core.event import PICO_FIELDS, TOKENS, UsageEvent
from shared.core.money import to_pico
from shared.core.rows import HostRow, UnmeteredRow, row_from_json
from shared.core.time import EPOCH, MILLISECOND
from shared.event_store.port import BUCKET, UsageGroup, Window
from shared.event_store.sums import STORED
from shared.spool.port import SpooledRow

_tokens_of, _costs_of = attrgetter(*TOKENS), attrgetter(*PICO_FIELDS)
_INSERT_EVENT = f"INSERT OR IGNORE INTO events VALUES ({','.join('?' * 19)})"  # noqa: S608 no data
_INSERT_UNMETERED = "INSERT OR IGNORE INTO unmetered VALUES (?, ?, ?)"
# The newest row counts whatever the order of arrival; of two of one instant, the larger text.
_INSERT_NEWEST = """
    INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT ({key}) DO UPDATE
    SET occurred_at_ms = excluded.occurred_at_ms, json = excluded.json
    WHERE (excluded.occurred_at_ms, excluded.json) > (occurred_at_ms, json)
"""
_INSERT_HOST = _INSERT_NEWEST.format(table="hosts", key="host_id")
_INSERT_USER = _INSERT_NEWEST.format(table="users", key="user_id")
_IN_WINDOW = "occurred_at_ms >= ? AND occurred_at_ms < ?"
# The words of the index `turns_by_time`, which answers this without reading any event.
_IS_TURN = "json_extract(json, '$.grain') = 'turn'"
_LISTED = "(SELECT value FROM json_each(?))"


def _split_sum(column: str) -> str:
    """Add halves of 32 bits: SQLite's own sum raises an error beyond 63 bits."""
    return f"ifnull(sum({column} >> 32), 0), ifnull(sum({column} & 4294967295), 0)"


SUMS = (
    "SELECT client_org_id, external_user, model, task, source, count(*), count(part),"  # noqa: S608 no data
    " sum(cost_pico_usd IS NULL), count(estimated_pico_usd), "
    f"{', '.join(map(_split_sum, STORED.values()))} "
    f"FROM events WHERE {_IN_WINDOW} GROUP BY 1, 2, 3, 4, 5"
)
FINGERPRINTS = (
    f"SELECT occurred_at_ms / {BUCKET // MILLISECOND}, count(*), "  # noqa: S608 no data
    f"{_split_sum('cost_pico_usd')}, {_split_sum('total_tokens')} "
    f"FROM events WHERE {_IN_WINDOW} GROUP BY 1"
)
REPEATED = (
    f"SELECT request_id FROM events WHERE {_IN_WINDOW}"  # noqa: S608 no data
    " GROUP BY request_id HAVING count(*) > 1"
)
COUNT = f"SELECT count(*) FROM events WHERE {_IN_WINDOW}"  # noqa: S608
TURN_COUNT = f"{COUNT} AND {_IS_TURN}"
BILLS = f"SELECT request_id FROM events WHERE {_IN_WINDOW}"  # noqa: S608
ANSWERS = (
    f"SELECT request_id, {_IS_TURN}, json_extract(json, '$.chat_id'),"  # noqa: S608 no data
    f" json_extract(json, '$.message_id') FROM events WHERE {_IN_WINDOW}"
)
EVENTS = f"SELECT json FROM events WHERE {_IN_WINDOW} ORDER BY occurred_at_ms"  # noqa: S608
# The plus keeps SQLite from reading the window when the index of the ids is much shorter.
OF_BILLS = (
    f"SELECT json FROM events WHERE request_id IN {_LISTED}"  # noqa: S608 no data
    " AND +occurred_at_ms >= ? AND +occurred_at_ms < ?"
)
OF_MESSAGES = (
    f"SELECT json FROM events WHERE {_IN_WINDOW}"  # noqa: S608 no data
    f" AND json_extract(json, '$.message_id') IN {_LISTED} AND request_id NOT IN {_LISTED}"
)
UNMETERED = f"SELECT json FROM unmetered WHERE {_IN_WINDOW} ORDER BY occurred_at_ms"  # noqa: S608


def bounds(window: Window) -> tuple[int, int]:
    """Return the first millisecond of a window and the one after its last."""
    return milliseconds(window.start), milliseconds(window.end)


def joined(halves: Sequence[int]) -> list[int]:
    """Return the sums of which these are the halves."""
    return [(high << 32) + low for high, low in zip(halves[::2], halves[1::2], strict=True)]


def group_of(row: tuple[Any, ...]) -> UsageGroup:
    """Return a group of `SUMS`."""
    organization, user, model, task, source, events, parts, pending, estimated, *halves = row
    sums = dict(zip(STORED, joined(halves), strict=True))
    return UsageGroup(
        client_org_id=organization,
        external_user=user,
        model=model,
        task=task,
        source=source,
        amounts=Amounts(events=events - parts, pending=pending, estimated=estimated, **sums),
        parts=parts,
    )


def insert(connection: sqlite3.Connection, row: SpooledRow) -> None:
    """Insert a row unless it is stored. Raises InvalidEvent when it cannot be read."""
    content = row_from_json(row.kind, row.json)
    at = milliseconds(content.occurred_at)
    if isinstance(content, UsageEvent):
        values = (row.event_id, *_columns(content, at), row.json, content.part)
        connection.execute(_INSERT_EVENT, values)
    elif isinstance(content, UnmeteredRow):
        connection.execute(_INSERT_UNMETERED, (row.event_id, at, row.json))
    elif isinstance(content, HostRow):
        connection.execute(_INSERT_HOST, (content.host_id, at, row.json))
    else:
        connection.execute(_INSERT_USER, (content.user_id, at, row.json))


def _columns(event: UsageEvent, at: int) -> tuple[object, ...]:
    return (
        event.request_id,
        at,
        event.client_org_id,
        event.external_user,
        event.model,
        event.task,
        event.source,
        *_tokens_of(event),
        *(None if amount is None else to_pico(amount) for amount in _costs_of(event)),
    )


def milliseconds(time: datetime) -> int:
    """Count milliseconds since 1970, rounded up: an edge inside one lies after its events."""
    return -((EPOCH - time) // MILLISECOND)
