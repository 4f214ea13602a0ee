"""Delivery: moving batches from a spool to an event store, losing and doubling nothing."""

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from shared.core.clock import Clock
from shared.delivery.batches import BatchReader, BatchSize, first_batch
from shared.delivery.breaker import Breaker, BreakerState
from shared.delivery.port import EventSink
from shared.delivery.retry import RetrySchedule
from shared.delivery.sender import BatchOutcome, Sender
from shared.errors import Misconfigured, StoreFault, Unavailable
from shared.spool.port import Spool, SpooledRow

logger = logging.getLogger("owui_usage")

DeliveryState = Literal["idle", "standby", "unavailable", "breaker_open", "misconfigured"]


@dataclass(frozen=True, kw_only=True)
class DeliveryPolicy:
    """How batches are cut and retried; bytes are of the rows' JSON."""

    batch_rows: int = 5000
    # 400 kB compressed, where proxies answer 413 from 1 MB on. 2.9.1 took 8.6 k events/s so, and
    # 5.4 k when they were cut at 1 MB of JSON (two runs each, on a busy machine).
    batch_bytes: int = 4_000_000
    lease_seconds: float = 60.0
    probe_seconds: float = 60.0
    schedule: RetrySchedule = field(default_factory=RetrySchedule)
    breaker: Breaker = field(default_factory=Breaker)


@dataclass(frozen=True, kw_only=True)
class DeliveryResult:
    """What one run did, in rows, and how delivery stands after it; `message` is for the admin."""

    state: DeliveryState
    message: str
    accepted: int
    rejected: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class DeliveryStatus:
    """How delivery stands: for the `host` row. Latencies are of single writes, milliseconds."""

    state: DeliveryState
    message: str
    breaker: BreakerState
    write_p50_ms: float | None
    write_p99_ms: float | None


class Delivery:
    """Delivers one spool to one sink, one batch after the other, from one thread.

    A row leaves the queue only when the store took it or when the store refused that single row.
    Whatever else happens, rows wait; sending one again is safe, because stores take it as the same.
    """

    def __init__(
        self,
        spool: Spool,
        sink: EventSink,
        owner: str,
        clock: Clock,
        policy: DeliveryPolicy | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._spool = spool
        self._sink = sink
        self._owner = owner
        self._clock = clock
        self._policy = policy or DeliveryPolicy()
        self._stop = stop or threading.Event()
        self._sender = Sender(sink, self._policy.schedule, self._may_send, self._stop)
        self._breaker = self._policy.breaker
        self._size = BatchSize(self._policy.batch_rows)
        self._batches = BatchReader(spool, sink, self._size, self._policy.batch_bytes)
        self._state: DeliveryState = "idle"
        self._message = "ok"
        self._pause: tuple[datetime, datetime] | None = None
        self._leased_at: datetime | None = None
        self._counts = Counter[str]()

    def status(self) -> DeliveryStatus:
        """Return how delivery stands; any thread may ask."""
        return DeliveryStatus(
            state=self._state,
            message=self._message,
            breaker=self._breaker.state(self._clock.now()),
            write_p50_ms=self._sender.latencies.percentile(50),
            write_p99_ms=self._sender.latencies.percentile(99),
        )

    def run_once(self) -> DeliveryResult:
        """Deliver until the spool is empty or a batch is not taken.

        Does nothing while the breaker is open, a pause lasts or another process delivers. Raises
        SpoolError when the local disk has trouble.
        """
        self._counts = Counter[str]()
        if self._may_attempt() and self._may_send():
            self._drain()
        return DeliveryResult(
            state=self._state,
            message=self._message,
            accepted=self._counts["accepted"],
            rejected=self._counts["rejected"],
            kept=self._counts["kept"],
        )

    def release(self) -> None:
        """Give up the lease, so that another process can deliver."""
        self._leased_at = None
        self._spool.release(self._owner)

    def _may_attempt(self) -> bool:
        now = self._clock.now()
        # Both ends are compared, so that a clock that was set back does not prolong a pause.
        is_paused = self._pause is not None and self._pause[0] <= now < self._pause[1]
        return not is_paused and self._breaker.allows(now)

    def _drain(self) -> None:
        try:
            while batch := self._batches.next():
                with self._batches.ahead_of(batch):
                    outcome = self._deliver(batch)
                if outcome.waiting(batch) or self._stop.is_set():
                    return
        finally:
            self._batches.read_anew()
            self._batches.acknowledge()
        if self._state != "misconfigured":
            self._become("idle", "ok")

    def _deliver(self, batch: Sequence[SpooledRow]) -> BatchOutcome:
        """Deliver a batch and acknowledge what became of it."""
        outcome = BatchOutcome()
        try:
            self._send_or_isolate(batch, outcome)
            self._passed(outcome)
        except Unavailable as error:
            self._failed(error)
        except Misconfigured as error:
            self._misconfigured(str(error))
        except ModuleNotFoundError as error:
            self._misconfigured(
                f"the package {error.name} is missing here: pip install influxdb-client tenacity"
            )
        finally:
            self._end(outcome, kept=[row.row_id for row in outcome.waiting(batch)])
        return outcome

    def _send_or_isolate(self, batch: Sequence[SpooledRow], outcome: BatchOutcome) -> None:
        """Send a batch; one that alone makes the store fail is cut down to the rows that do it."""
        try:
            self._sender.send(batch, outcome)
        except StoreFault:
            canary = self._find_canary(after=batch[-1].row_id)
            if not canary:
                raise
            self._sender.send(outcome.waiting(batch), outcome, canary)

    def _find_canary(self, after: int) -> list[SpooledRow]:
        """Deliver the next batch, in one attempt, and return a row of it that was accepted.

        It is as small as batches are by now: a large one would hold the next row that is at fault.
        """
        self._batches.read_anew()
        following = self._spool.take(self._size.rows, after_row_id=after)
        batch = first_batch(following, self._policy.batch_bytes)
        outcome = BatchOutcome()
        if batch:
            outcome.add(batch, self._sender.attempt(batch))
            self._end(outcome, kept=())
        return [row for row in batch if row.row_id in outcome.accepted[:1]]

    def _end(self, outcome: BatchOutcome, kept: Sequence[int]) -> None:
        """Acknowledge rows; those that the store took are acknowledged beside the next batch."""
        self._batches.note_accepted(outcome.accepted)
        if outcome.rejected or kept:
            self._spool.acknowledge(rejected=list(outcome.rejected.items()), kept=kept)
        self._counts.update(
            accepted=len(outcome.accepted), rejected=len(outcome.rejected), kept=len(kept)
        )
        if outcome.rejected:
            # The server's answer may quote the line: it goes to the dead letter, not to the log.
            logger.warning("new dead letters: %d refused by the store", len(outcome.rejected))

    def _may_send(self) -> bool:
        """Renew the lease once half of it is over: attempts of one batch may outlast it."""
        now = self._clock.now()
        half = timedelta(seconds=self._policy.lease_seconds / 2)
        if self._leased_at is not None and timedelta(0) <= now - self._leased_at < half:
            return True
        if self._spool.lease(self._owner, self._policy.lease_seconds):
            self._leased_at = now
            return True
        self._leased_at = None
        self._become("standby", "another process delivers this spool")
        return False

    def _passed(self, outcome: BatchOutcome) -> None:
        """Note a batch that ended; one that was halved does not count for the breaker."""
        if outcome.accepted or outcome.rejected:
            self._pause = None
            self._size.grow()
            self._become("idle", "ok")
            if not outcome.was_halved:
                self._breaker = self._breaker.after_success()

    def _failed(self, error: Unavailable) -> None:
        if self._stop.is_set():
            return
        now = self._clock.now()
        self._breaker = self._breaker.after_failure(now)
        self._size.shrink()
        if error.retry_after_seconds is not None:
            self._pause = (now, now + timedelta(seconds=error.retry_after_seconds))
        is_closed = self._breaker.state(now) == "closed"
        self._become("unavailable" if is_closed else "breaker_open", str(error))

    def _misconfigured(self, message: str) -> None:
        """Keep everything and ask rarely, while another process may deliver if it can."""
        now = self._clock.now()
        self._pause = (now, now + timedelta(seconds=self._policy.probe_seconds))
        self._become("misconfigured", message)
        self.release()

    def _become(self, state: DeliveryState, message: str) -> None:
        is_news = state != self._state or (state == "misconfigured" and message != self._message)
        if is_news:
            level = logging.INFO if state in ("idle", "standby") else logging.WARNING
            logger.log(level, "delivery to %s is %s: %s", self._sink.name, state, message)
        self._state, self._message = state, message
