"""Reading a spool: what waits, what was put aside, and the counts of its status."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from json import dumps, loads
from typing import Literal

from shared.core.rows import HostRow, RowKind, row_from_json
from shared.core.time import from_ms
from shared.errors import InvalidEvent
from shared.spool.file import spool_bytes_used
from shared.spool.port import SpooledRow, SpoolStatus

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
