"""The jobs that wait for the writer of a spool, in the order of their arrival."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from shared.errors import UsageError
from shared.spool.enqueue import SpoolTransaction


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
        """Do the work in a transaction; return what it returns, or its refusal."""
        try:
            return self.run(tx)
        except UsageError as refusal:
            return refusal.with_traceback(None)  # it would keep the transaction alive


class SpoolBacklog:
    """A queue between the threads that have work and the one that does it.

    A garbage collection may enter it once more in the middle: it has no lock of its own.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[SpoolJob | None] = SimpleQueue()

    def __len__(self) -> int:
        return self._queue.qsize()

    def add(self, job: SpoolJob) -> None:
        """Let a job wait."""
        self._queue.put(job)

    def wake(self) -> None:
        """End the waiting of `take_next`, now or when it begins."""
        self._queue.put(None)

    def take_next(self, seconds: float, most: int) -> list[SpoolJob]:
        """Wait so long for a job, then take it and what else waits, at most so many."""
        try:
            first = self._queue.get(timeout=max(0.0, seconds))
        except Empty:
            return []
        return [*([first] if first else []), *self.take(most - 1)]

    def take(self, most: int) -> list[SpoolJob]:
        """Take what waits, at most so many."""
        jobs: list[SpoolJob] = []
        with suppress(Empty):
            while len(jobs) < most:
                job = self._queue.get_nowait()
                if job is not None:
                    jobs.append(job)
        return jobs
