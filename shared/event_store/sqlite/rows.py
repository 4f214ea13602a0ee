"""How rows become columns of the embedded event store."""

import sqlite3
from datetime import datetime
from operator import attrgetter

from shared.core.event import PICO_FIELDS, TOKENS, UsageEvent
from shared.core.money import to_pico
from shared.core.rows import HostRow, UnmeteredRow, row_from_json
from shared.core.time import EPOCH, MILLISECOND
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
