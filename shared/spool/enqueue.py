"""Queueing: what one transaction does with rows and open generations that come in."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import count
from json import loads
from typing import NamedTuple

from shared.core.event import UsageEvent, quarantine_reason
from shared.core.ids import has_store_time, point_time_ns
from shared.core.rows import HostRow, Row, UserRow
from shared.core.time import to_ms
from shared.errors import SpoolFull
from shared.spool.file import spool_bytes_used
from shared.spool.port import PutOutcome

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
