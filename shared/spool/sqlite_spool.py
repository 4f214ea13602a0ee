"""The spool: the durable queue on local disk between capture and delivery, over sqlite3."""

import os
import sqlite3
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.event import UsageEvent
from shared.core.rows import HostRow, Row, RowKind
from shared.core.time import to_ms
from shared.errors import SpoolError
from shared.spool.acknowledge import (
    accept_rows,
    keep_rows,
    mark_for_a_moment,
    reject_rows,
    release_lease,
    replay_rows,
)
from shared.spool.damage import SPOOL_FILE_ERRORS
from shared.spool.enqueue import SpoolTransaction, incoming_row, queue_rows, write_note
from shared.spool.port import PutOutcome, SpooledRow, SpoolStatus
from shared.spool.process import SpoolProcess, SpoolSettings
from shared.spool.queries import (
    AsideState,
    DeadLetter,
    letters_by_page,
    read_everything,
    read_hosts,
    read_letters,
    read_queued,
    read_status,
)

SpoolAnswer = TypeVar("SpoolAnswer")
_ROW_KINDS: tuple[str, ...] = get_args(RowKind)
_ASIDE_STATES: tuple[AsideState, ...] = ("dead", "quarantined")
# A delivery thread would rather give up than wait for ever for a disk that hangs.
_DISK_ANSWER_SECONDS = 60.0


class SqliteSpool:
    """A spool file; every method may be called from any thread and in a forked child.

    Several processes may use one file, a file of any age is brought up to date, a corrupt one is
    kept beside a new one. Nothing touches the disk and no thread starts before the first use. A
    spool that is dropped or closed commits what waits and ends its thread. Counted by reason:
    queued, duplicate, quarantined, quarantined_<reason>, conflict, refused, refused_full,
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
        # tells it to end, because garbage is collected in any thread, the event loop's too.
        weakref.finalize(self, _stop_writers, self._processes).atexit = False

    def put(self, rows: Sequence[Row]) -> Future[list[PutOutcome]]:
        """Queue rows; the future is done when they would survive a power loss.

        One outcome per row, in order. A duplicate of a queued or delivered event is no error. The
        future ends in SpoolFull or another SpoolError when nothing was queued.
        """
        now = self._clock.now()
        incoming = [incoming_row(row, now, self.settings.max_cost_usd) for row in rows]
        return self._submit(partial(queue_rows, rows=incoming, max_bytes=self.settings.max_bytes))

    def put_host(self, row: HostRow) -> Future[list[PutOutcome]]:
        """Keep what a host says of itself and queue it, in place of an older one that waits."""
        return self.put([row])

    def note_open(self, event: UsageEvent) -> None:
        """Remember a generation that has begun, or what is known of it by now; waits for nothing.

        `event` is the pending event to book if nothing better comes. The note outlives the process
        as soon as the writer has come to it, a power loss a second later.
        """
        now = self._clock.now()
        row = incoming_row(event, now, self.settings.max_cost_usd)
        owner = self._process.owner
        seen_ms = to_ms(now)
        self._process.writer.submit(
            lambda tx: write_note(tx, row, owner, seen_ms), is_awaited=False
        )

    def note_seen(self, request_ids: Sequence[str]) -> None:
        """Keep open generations of this process from expiring; costs a microsecond, no disk."""
        self._process.see(request_ids)

    def expire_open(self, now: datetime, quiet_seconds: float) -> int:
        """Book generations as pending that this process has not seen for a while; returns how many.

        Whoever holds the lease also books those of processes that are silent a minute longer.
        """
        process = self._process
        return self._wait(lambda tx: process.expire(tx, now, quiet_seconds))

    def take(self, limit: int, after_row_id: int = 0) -> list[SpooledRow]:
        """Return the oldest queued rows, at most `limit`, without changing them."""
        with self._reading() as db:
            return read_queued(db, limit, after_row_id)

    def settle(
        self,
        accepted: Sequence[int] = (),
        rejected: Sequence[tuple[int, str]] = (),
        kept: Sequence[int] = (),
    ) -> None:
        """End a delivery: accepted rows are done, rejected ones are put aside, kept ones wait.

        Marking a row twice changes nothing; a crash in between leaves rows queued.
        """
        marks: tuple[tuple[Callable[..., None], Sequence[Any]], ...] = (
            (accept_rows, accepted),
            (reject_rows, rejected),
            (keep_rows, kept),
        )
        for mark, rows in marks:
            done = 0
            while done < len(rows):
                done += self._wait(partial(mark_for_a_moment, mark=mark, rows=rows[done:]))

    def lease(self, owner: str, seconds: float) -> bool:
        """Become or stay the one that delivers this spool; False while another one is."""
        process = self._process
        return self._wait(lambda tx: process.lease(tx, owner, seconds))

    def release(self, owner: str) -> None:
        """Give up the lease."""
        self._wait(lambda tx: release_lease(tx, owner))

    def status(self) -> SpoolStatus:
        """Return counts as of now; the counters are those of all processes, ever."""
        with self._reading() as db:
            return read_status(db, self._process.counters.unsaved(), self.settings.max_bytes)

    def counters(self) -> dict[str, int]:
        """Return what this process counted since it began."""
        return self._process.counters.totals()

    def count(self, reason: str, by: int = 1) -> None:
        """Count something that happened outside the file; the next commit writes it down."""
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
        return self._pages(partial(read_letters, states=states, kinds=kinds))

    def replay(
        self,
        states: Collection[AsideState] = _ASIDE_STATES,
        kinds: Collection[str] = _ROW_KINDS,
    ) -> int:
        """Queue rows again that were put aside, without asking again; returns how many."""
        return self._wait(lambda tx: replay_rows(tx, states, kinds))

    def export(self) -> Iterator[str]:
        """Return every row of the file, in whatever state, as lines of JSON."""
        return (row.to_line() for row in self._pages(read_everything))

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

    def _submit(self, run: Callable[[SpoolTransaction], SpoolAnswer]) -> Future[SpoolAnswer]:
        return self._process.writer.submit(run)

    def _wait(self, run: Callable[[SpoolTransaction], SpoolAnswer]) -> SpoolAnswer:
        try:
            return self._submit(run).result(_DISK_ANSWER_SECONDS)
        except TimeoutError:
            raise SpoolError(f"{self.path}: no answer from the disk") from None

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._process.file.reading() as db:
                yield db
        except (*SPOOL_FILE_ERRORS, sqlite3.Error, OSError) as error:
            raise SpoolError(f"{self.path}: {error}") from error

    def _pages(self, read: Callable[..., list[DeadLetter]]) -> Iterator[DeadLetter]:
        return letters_by_page(self._reading, read)


def _stop_writers(processes: dict[int, SpoolProcess]) -> None:
    mine = processes.get(os.getpid())
    if mine is not None:
        mine.writer.stop()
