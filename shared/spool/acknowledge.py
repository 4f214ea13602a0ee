"""What one transaction does with rows and open generations that are already there."""

import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from json import dumps
from typing import Any

from shared.core.event import event_from_json
from shared.core.sqlite_schema import sqlite_pragma
from shared.core.time import to_ms
from shared.errors import InvalidEvent
from shared.spool.enqueue import SpoolTransaction, incoming_row, queue_row

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
