"""The one thread of a process that writes to a spool: everything that waits, in one commit."""

import atexit
import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from shared.core.clock import Clock
from shared.core.time import to_ms
from shared.errors import SpoolError, SpoolFull, UsageError
from shared.spool.acknowledge import save_counters
from shared.spool.damage import SPOOL_FILE_ERRORS, is_corrupt
from shared.spool.enqueue import SpoolTransaction
from shared.spool.file import SpoolFile

SpoolAnswer = TypeVar("SpoolAnswer")
logger = logging.getLogger("owui_usage")

# Jobs that share a commit at most, and jobs that may wait while the disk does not answer.
_JOBS_PER_COMMIT = 1000
_JOBS_WAITING_MAX = 10_000
_SPOOL_EXIT_SECONDS = 5.0
_UPKEEP_RETRY_SECONDS = 30.0
# Work that is not awaited is synced with the next commit that is, and no later than this.
_UNSYNCED_SECONDS = 1.0
# Commits of hooks that fit into the log as it was laid out: it is written anew, not prolonged.
_COMMITS_PER_LOG = 128
_SAME_LOG_SECONDS = 60.0


class SpoolCounters:
    """Totals of this process, and how much of them the file does not have yet."""

    def __init__(self) -> None:
        # Reentrant: a garbage collection in the middle may end a spool, which counts as well.
        self._lock = threading.RLock()
        self._totals: Counter[str] = Counter()
        self._unsaved: Counter[str] = Counter()

    def add(self, reason: str, by: int = 1) -> None:
        """Count now; the next commit stores it."""
        with self._lock:
            self._totals[reason] += by
            self._unsaved[reason] += by

    def unsaved(self) -> dict[str, int]:
        with self._lock:
            return dict(self._unsaved)

    def commit(self, carried: Mapping[str, int], counted: Mapping[str, int]) -> None:
        """Record a commit: `carried` was unsaved before, `counted` arose in the transaction."""
        with self._lock:
            self._unsaved.subtract(carried)
            self._unsaved = +self._unsaved
            self._totals.update(counted)

    def totals(self) -> dict[str, int]:
        with self._lock:
            return dict(self._totals)


@dataclass(frozen=True)
class SpoolJob:
    """Work for one transaction. It may refuse with a UsageError before its first change.

    `is_awaited` work is on disk when its future is done; other work outlives the process by then,
    a power loss a second later.
    """

    run: Callable[[SpoolTransaction], Any]
    future: Future[Any]
    is_awaited: bool = True

    def answer(self, tx: SpoolTransaction) -> Any:
        """Return what the work returns, or its refusal."""
        try:
            return self.run(tx)
        except UsageError as refusal:
            return refusal.with_traceback(None)  # it would keep the transaction alive


class SpoolWriter:
    """Commits jobs in the order of their arrival, as many at once as wait.

    The thread starts with the first job, keeps no reference to the spool that it serves and ends
    with `stop` or with the process. `upkeep` runs in a transaction of its own now and then and
    returns the seconds until it wants to run again.
    """

    def __init__(
        self,
        file: SpoolFile,
        counters: SpoolCounters,
        clock: Clock,
        upkeep: Callable[[SpoolTransaction], float],
    ) -> None:
        self._file = file
        self._counters = counters
        self._clock = clock
        self._upkeep = upkeep
        self._upkeep_at = time.monotonic()
        self._checkpoint_at = inf
        self._commits_in_log = 0
        self._process_id = os.getpid()
        # No lock of its own: a garbage collection may enter it once more in the middle. None ends a
        # wait.
        self._queue: SimpleQueue[SpoolJob | None] = SimpleQueue()
        # Reentrant: a garbage collection that ends a spool may enter it once more.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._is_exiting = False
        self._logged = ""
        self._log_again_at = 0.0

    def submit(
        self, run: Callable[[SpoolTransaction], SpoolAnswer], *, is_awaited: bool = True
    ) -> Future[SpoolAnswer]:
        """Have work done in one of the next transactions.

        The future ends in a UsageError of the work itself or in SpoolError; it cannot be cancelled,
        so that an impatient caller never undoes a commit.
        """
        future: Future[SpoolAnswer] = Future()
        future.set_running_or_notify_cancel()
        try:
            self._enqueue(SpoolJob(run, future, is_awaited))
        except SpoolError as error:
            future.set_exception(error)
        return future

    def stop(self) -> None:
        """Refuse new work and let the thread end after what waits; returns at once."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._queue.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end after `stop`; False if it has not."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(seconds)
        return not thread.is_alive()

    def _enqueue(self, job: SpoolJob) -> None:
        with self._lock:
            if self._stopped:
                self._counters.add("refused_closed")
                raise SpoolError(f"spool {self._file.path} is closed")
            if self._queue.qsize() >= _JOBS_WAITING_MAX:
                self._counters.add("refused_backlog")
                raise SpoolFull(
                    f"the disk of {self._file.path} does not keep up: {_JOBS_WAITING_MAX} jobs wait"
                )
            self._start()
            self._queue.put(job)

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        thread = threading.Thread(target=self._run, name="owui_usage spool", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise SpoolError(f"no thread for the spool: {error}") from error
        self._thread = thread
        atexit.register(self._exit)

    def _exit(self) -> None:
        """Commit what waits when the process ends; a forked child has no such thread."""
        if os.getpid() == self._process_id:
            self._is_exiting = True
            self.stop()
            self.join(_SPOOL_EXIT_SECONDS)

    def _run(self) -> None:
        while not self._stopped or not self._queue.empty():
            seconds = min(self._upkeep_at, self._checkpoint_at) - time.monotonic()
            if jobs := self._take(_JOBS_PER_COMMIT, max(0.0, seconds)):
                self._commit(jobs)
            if time.monotonic() >= self._upkeep_at:
                self._upkeep_at = time.monotonic() + _UPKEEP_RETRY_SECONDS
                self._commit([SpoolJob(self._run_upkeep, Future())])
                self._checkpoint_at = 0.0
            if time.monotonic() >= self._checkpoint_at:
                # Between two commits: no hook has to wait for it, unless it comes just now.
                self._commits_in_log, self._checkpoint_at = 0, inf
                self._tidy(self._file.checkpoint)
        self._tidy(self._file.close)
        if not self._is_exiting:
            atexit.unregister(self._exit)

    def _take(self, most: int, timeout: float = 0.0) -> list[SpoolJob]:
        """Take at most `most` jobs; `timeout` is in seconds, for the first of them."""
        jobs: list[SpoolJob] = []
        with suppress(Empty):
            while len(jobs) < most:
                job = self._queue.get(timeout=timeout)
                timeout = 0.0
                if job is not None:
                    jobs.append(job)
        return jobs

    def _run_upkeep(self, tx: SpoolTransaction) -> None:
        self._upkeep_at = time.monotonic() + self._upkeep(tx)

    def _commit(self, jobs: list[SpoolJob]) -> None:
        """Commit jobs together and resolve their futures; a failure never ends the thread."""
        try:
            answers = self._transact(jobs)
        except Exception as error:  # noqa: BLE001 - whatever happens, callers get an answer
            self._fail(jobs, error)
            return
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, UsageError):
                self._log_throttled(str(answer))
                job.future.set_exception(answer)
            else:
                job.future.set_result(answer)

    def _transact(self, jobs: list[SpoolJob]) -> list[Any]:
        try:
            return self._transact_once(jobs)
        except SPOOL_FILE_ERRORS as error:
            if not is_corrupt(error):
                raise
            # The file has been set aside; nothing of these jobs is in the new one yet.
            return self._transact_once(jobs)

    def _transact_once(self, jobs: list[SpoolJob]) -> list[Any]:
        """Run jobs in one transaction, and what has come in by its end: `jobs` grows by it."""
        is_synced = any(job.is_awaited for job in jobs)
        with self._file.writing(is_synced=is_synced) as db:
            changes = db.total_changes
            tx = SpoolTransaction(db, to_ms(self._clock.now()))
            answers = [job.answer(tx) for job in jobs]
            while is_synced and (late := self._take(_JOBS_PER_COMMIT - len(jobs))):
                jobs += late
                answers += [job.answer(tx) for job in late]
            carried = self._counters.unsaved()
            save_counters(db, tx.counted + Counter(carried))
        self._counters.commit(carried, +tx.counted)
        self._plan_checkpoint(is_synced=is_synced and db.total_changes > changes)
        return answers

    def _plan_checkpoint(self, *, is_synced: bool) -> None:
        self._commits_in_log += 1
        if self._commits_in_log >= _COMMITS_PER_LOG:
            self._checkpoint_at = 0.0
        elif is_synced:
            self._checkpoint_at = inf
        else:
            self._checkpoint_at = min(self._checkpoint_at, time.monotonic() + _UNSYNCED_SECONDS)

    def _fail(self, jobs: Sequence[SpoolJob], error: Exception) -> None:
        self._counters.add("write_failed", len(jobs))
        kind, message = SpoolError, f"{self._file.path}: {error}"
        if isinstance(error, SpoolError):
            kind, message = type(error), str(error)
        self._log_throttled(message)
        for job in jobs:
            job.future.set_exception(kind(message))

    def _log_throttled(self, message: str) -> None:
        """Log a failure, the same one once a minute: an outage must not fill the disk."""
        if message != self._logged or time.monotonic() >= self._log_again_at:
            logger.error("rows were not queued: %s", message)
            self._logged = message
            self._log_again_at = time.monotonic() + _SAME_LOG_SECONDS

    def _tidy(self, step: Callable[[], None]) -> None:
        """Run a step whose failure loses no event: all is committed."""
        try:
            step()
        except (sqlite3.Error, OSError) as error:
            logger.warning("spool %s: %s", self._file.path, error)
