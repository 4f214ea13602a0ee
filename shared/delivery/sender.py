"""Sending: one batch to one sink, tried again while that may help, halved while that may."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from shared.delivery.latency import Latencies
from shared.delivery.port import EventSink, WriteResult
from shared.delivery.retry import RetrySchedule
from shared.errors import BatchRefused, StoreFault, TooLarge, Unavailable
from shared.spool.port import SpooledRow

_REASON_LENGTH_MAX = 500


@dataclass
class BatchOutcome:
    """How the rows of a batch ended so far, by row id; `was_halved` when it had to be cut down."""

    accepted: list[int] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    was_halved: bool = False

    def add(self, rows: Sequence[SpooledRow], result: WriteResult) -> None:
        """Add the result of one write of these rows."""
        self.accepted += [rows[position].row_id for position in result.accepted]
        self.rejected |= {rows[position].row_id: reason for position, reason in result.rejected}

    def waiting(self, rows: Sequence[SpooledRow]) -> list[SpooledRow]:
        """Return those of the rows that have not ended."""
        if len(self.accepted) == len(rows):
            return []
        ended = {*self.accepted, *self.rejected}
        return [row for row in rows if row.row_id not in ended]


class Sender:
    """Sends rows to one sink, from one thread.

    `may_send` is asked before every attempt; after a no, nothing is sent and no row ends. Waits end
    when `stop` is set.
    """

    def __init__(
        self,
        sink: EventSink,
        schedule: RetrySchedule,
        may_send: Callable[[], bool],
        stop: threading.Event,
    ) -> None:
        self._sink = sink
        self._schedule = schedule
        self._may_send = may_send
        self._stop = stop
        self.latencies = Latencies()

    def send(
        self, rows: Sequence[SpooledRow], outcome: BatchOutcome, canary: Sequence[SpooledRow] = ()
    ) -> None:
        """Send rows, halved for as long as the store refuses them together.

        With a canary (a row that the store just took), rows that get nothing but 500 are
        halved too. Before a single one of those is given up, the canary must pass once more: else
        the fault is the store's, not the row's.

        Raises Unavailable or Misconfigured; the outcome holds what ended before.
        """
        try:
            outcome.add(rows, self._write(rows, attempts=1 if canary and len(rows) > 1 else None))
            return
        except (BatchRefused, TooLarge) as refusal:
            reason = str(refusal)
        except StoreFault as fault:
            if not canary:
                raise
            reason = str(fault)
            if len(rows) == 1:
                self.attempt(canary)
        outcome.was_halved = True
        if len(rows) == 1:
            outcome.rejected[rows[0].row_id] = reason[:_REASON_LENGTH_MAX]
            return
        if self._stop.is_set():  # thousands of refused rows are minutes of requests
            raise Unavailable("delivery was stopped")
        middle = len(rows) // 2
        self.send(rows[:middle], outcome, canary)
        self.send(rows[middle:], outcome, canary)

    def attempt(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write rows once."""
        if not self._may_send():
            return WriteResult()
        started = perf_counter()
        try:
            return self._sink.write(rows)
        finally:
            self.latencies.add((perf_counter() - started) * 1000)

    def _write(self, rows: Sequence[SpooledRow], attempts: int | None) -> WriteResult:
        """Write rows, again and with growing waits while the store may come back.

        Raises StoreFault only when every attempt ended so: then it may be the rows.
        """
        from tenacity import (
            RetryCallState,
            Retrying,
            retry_if_exception,
            stop_after_attempt,
            wait_chain,
            wait_random,
        )

        failures: list[BaseException | None] = []
        waits = wait_chain(*[wait_random(*bounds) for bounds in self._schedule.wait_bounds])

        def note(state: RetryCallState) -> None:
            failures.append(state.outcome.exception() if state.outcome else None)

        def wait(state: RetryCallState) -> float:
            return max(waits(state), getattr(failures[-1], "retry_after_seconds", None) or 0.0)

        retrying = Retrying(
            stop=stop_after_attempt(attempts or self._schedule.attempts),
            retry=retry_if_exception(self._may_pass_later),
            after=note,
            wait=wait,
            # sleep_using_event would make one more attempt after the event was set.
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self.attempt, rows)
        except StoreFault as fault:
            if all(isinstance(failure, StoreFault) for failure in failures):
                raise
            raise Unavailable(str(fault)) from fault

    def _may_pass_later(self, error: BaseException) -> bool:
        return isinstance(error, Unavailable) and self._schedule.covers(error.retry_after_seconds)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Unavailable("delivery was stopped")
