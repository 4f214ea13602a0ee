"""The spool: the durable queue on local disk between capture and delivery, over sqlite3."""

import asyncio
import os
import secrets
import sqlite3
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, get_args

from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.event import UsageEvent
from shared.core.rows import HostRow, Row, RowKind
from shared.core.time import to_ms
from shared.errors import SpoolError
from shared.spool.acknowledge import (
    accept_rows,
    acknowledge_slice,
    expire_open_generations,
    holds_lease,
    keep_rows,
    prune_spool,
    refresh_open_generations,
    reject_rows,
    release_lease,
    replay_rows,
    take_lease,
)
from shared.spool.damage import SPOOL_FILE_ERRORS
from shared.spool.enqueue import SpoolTransaction, incoming_row, queue_rows, upsert_open_generation
from shared.spool.file import SpoolFile, Synchronous
from shared.spool.port import PutOutcome, SpooledRow, SpoolStatus
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
from shared.spool.writer import SpoolAnswer, SpoolCounters, SpoolWriter

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
