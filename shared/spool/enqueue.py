"""Queueing: what one transaction does with rows and notes that come in."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import NamedTuple

from shared.core.event import UsageEvent, event_from_json, quarantine_reason
from shared.core.ids import has_store_time, store_ns
from shared.core.rows import HostRow, Row, UserRow, row_time
from shared.core.time import to_ms
from shared.errors import InvalidEvent, SpoolFull
from shared.spool.file import spool_bytes_used
from shared.spool.port import PutOutcome

# No row of ours comes near; it bounds what a caller can put on the disk at once.
_ROW_BYTES_MAX = 64 * 1024
_HOST_CLOCK_SLACK_MS = 60_000
# A row's columns and its entries in the indexes, beside its JSON.
_ROW_OVERHEAD_BYTES = 200

_LOOK_UP_SQL = """SELECT
    EXISTS (SELECT 1 FROM digests WHERE event_id = :event_id),
    EXISTS (SELECT 1 FROM digests WHERE store_ns = :store_ns),
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
        """Tell whether so many bytes fit, and count them as used if they do."""
        if self._bytes_used < 0:
            self._bytes_used = spool_bytes_used(self.db)
        if self._bytes_used + size > max_bytes:
            return False
        self._bytes_used += size
        return True


class IncomingRow(NamedTuple):
    """A row made ready for the writer: nothing in it can fail any more."""

    kind: str
    event_id: str
    request_id: str
    occurred_at: datetime
    json: str
    quarantine: str | None


class KnownRow(NamedTuple):
    """What the file knows of a row that comes in, of its place, its bill and its note."""

    is_known: bool
    is_taken: bool
    is_related: bool
    is_open: bool


def incoming_row(row: Row, now: datetime, max_cost_usd: Decimal) -> IncomingRow:
    """Make a row ready for the writer, at the caller's cost."""
    return IncomingRow(
        kind=row.kind,
        event_id=row.event_id,
        request_id=_row_request_id(row),
        occurred_at=row_time(row),
        json=row.to_json(),
        quarantine=_row_quarantine(row, now, max_cost_usd),
    )


def queue_rows(
    tx: SpoolTransaction, rows: Sequence[IncomingRow], max_bytes: int
) -> list[PutOutcome]:
    """Queue rows and close the notes they answer.

    Raises SpoolFull before it has changed anything.
    """
    _refuse_when_full(tx, rows, max_bytes)
    return [queue_row(tx, row) for row in rows]


def queue_row(tx: SpoolTransaction, row: IncomingRow) -> PutOutcome:
    """Queue one row whether there is room or not, and close the note it answers."""
    if len(row.json) > _ROW_BYTES_MAX:
        tx.counted["refused_too_large"] += 1
        return "refused"
    found, slot = _free_slot(tx.db, row)
    outcome = "duplicate" if found.is_known else _insert_spool_row(tx, row, slot, found.is_related)
    tx.counted[outcome] += 1
    if found.is_open and row.kind == "usage":
        tx.db.execute("DELETE FROM open_generations WHERE request_id = ?", (row.request_id,))
    return outcome


def write_note(tx: SpoolTransaction, row: IncomingRow, owner: str, seen_ms: int) -> None:
    """Remember a generation that has begun, or more of what is known of it.

    A generation that somebody already booked needs no note; a note of another process stays his.
    """
    tx.db.execute(
        "INSERT INTO open_generations (request_id, owner, last_seen, json)"
        " SELECT :request_id, :owner, :seen, :json"
        " WHERE NOT EXISTS (SELECT 1 FROM rows WHERE request_id = :request_id AND kind = 'usage')"
        " ON CONFLICT (request_id) DO UPDATE SET last_seen = excluded.last_seen,"
        " json = excluded.json WHERE owner = excluded.owner",
        {"request_id": row.request_id, "owner": owner, "seen": seen_ms, "json": row.json},
    )


def _free_slot(db: sqlite3.Connection, row: IncomingRow) -> tuple[KnownRow, int]:
    """Look a row up, at a place in the store that no other event of this spool has."""
    for moved in count():
        slot = store_ns(row.event_id, row.request_id, row.occurred_at, moved)
        found = _look_up_row(db, row, slot)
        if found.is_known or not found.is_taken:
            break
    return found, slot


def _insert_spool_row(
    tx: SpoolTransaction, row: IncomingRow, slot: int, is_related: bool
) -> PutOutcome:
    if row.kind == "host":
        _keep_newest_host(tx, row)
    if is_related and row.kind == "usage" and _is_money_conflict(tx.db, row):
        tx.counted["conflict"] += 1
    if row.quarantine is not None:
        tx.counted[f"quarantined_{row.quarantine}"] += 1
    outcome: PutOutcome = "quarantined" if row.quarantine else "queued"
    event_id = bytes.fromhex(row.event_id)
    tx.db.execute("INSERT INTO digests VALUES (?, ?, 0, ?)", (slot, event_id, tx.now_ms))
    tx.db.execute(
        "INSERT INTO rows (kind, event_id, request_id, store_ns, state, words, queued_at, json)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.kind,
            event_id,
            row.request_id,
            slot,
            outcome,
            row.quarantine or "",
            tx.now_ms,
            row.json,
        ),
    )
    return outcome


def _look_up_row(db: sqlite3.Connection, row: IncomingRow, slot: int) -> KnownRow:
    names = {
        "event_id": bytes.fromhex(row.event_id),
        "store_ns": slot,
        "request_id": row.request_id,
    }
    return KnownRow(*map(bool, db.execute(_LOOK_UP_SQL, names).fetchone()))


def _refuse_when_full(tx: SpoolTransaction, rows: Sequence[IncomingRow], max_bytes: int) -> None:
    # Host rows are let in: each replaces the last one, and they say that the spool is full.
    new = [row for row in rows if row.kind != "host"]
    needed = sum(len(row.json) + _ROW_OVERHEAD_BYTES for row in new)
    if tx.room_for(needed, max_bytes) or all(_look_up_row(tx.db, row, 0).is_known for row in new):
        return
    tx.counted["refused_full"] += len(rows)
    raise SpoolFull(f"the spool has reached its limit of {max_bytes} bytes")


def _keep_newest_host(tx: SpoolTransaction, row: IncomingRow) -> None:
    """Remember what a host last said; of what waits for delivery only the newest is of use.

    What was said well in the future was said before a clock was set back: it does not last.
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
    waiting = "FROM rows WHERE request_id = ? AND kind = 'host' AND state = 'queued'"
    tx.db.execute(
        f"DELETE FROM digests WHERE store_ns IN (SELECT store_ns {waiting})",  # noqa: S608 - own words
        (row.request_id,),
    )
    tx.db.execute(f"DELETE {waiting}", (row.request_id,))


def _is_money_conflict(db: sqlite3.Connection, row: IncomingRow) -> bool:
    """Tell whether another observation of this bill, still here, was settled at another amount."""
    mine = _settled_money(row.json)
    if mine is None:
        return False
    others = db.execute(
        "SELECT json FROM rows WHERE request_id = ? AND kind = 'usage'", (row.request_id,)
    )
    return any(_settled_money(text) not in (None, mine) for (text,) in others)


def _settled_money(text: str) -> tuple[Decimal, Decimal | None] | None:
    try:
        event = event_from_json(text)
    except InvalidEvent:
        return None  # written by a version whose rules differ; the projection looks again
    return None if event.cost_usd is None else (event.cost_usd, event.upstream_cost_usd)


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
