"""Delivery: moving batches from a spool to an event store, losing and doubling nothing."""

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.core.clock import Clock
from shared.delivery.batches import Batches, BatchSize, first_batch
from shared.delivery.port import EventSink
from shared.delivery.sender import Sender, Tally
from shared.delivery.state import DeliveryPolicy, DeliveryResult, DeliveryState, DeliveryStatus
from shared.errors import Misconfigured, StoreFault, Unavailable
from shared.spool.port import Spool, SpooledRow

logger = logging.getLogger("owui_usage")


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
        self._batches = Batches(spool, sink, self._size, self._policy.batch_bytes)
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
        """Let another process deliver from now on."""
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
                    tally = self._deliver(batch)
                if tally.waiting(batch) or self._stop.is_set():
                    return
        finally:
            self._batches.forget()
            self._batches.mark()
        if self._state != "misconfigured":
            self._become("idle", "ok")

    def _deliver(self, batch: Sequence[SpooledRow]) -> Tally:
        """Deliver a batch and settle what became of it."""
        tally = Tally()
        try:
            self._send_or_isolate(batch, tally)
            self._passed(tally)
        except Unavailable as error:
            self._failed(error)
        except Misconfigured as error:
            self._misconfigured(str(error))
        except ModuleNotFoundError as error:
            self._misconfigured(
                f"the package {error.name} is missing here: pip install influxdb-client tenacity"
            )
        finally:
            self._end(tally, kept=[row.row_id for row in tally.waiting(batch)])
        return tally

    def _send_or_isolate(self, batch: Sequence[SpooledRow], tally: Tally) -> None:
        """Send a batch; one that alone makes the store fail is cut down to the rows that do it."""
        try:
            self._sender.send(batch, tally)
        except StoreFault:
            witness = self._row_that_passes(after=batch[-1].row_id)
            if not witness:
                raise
            self._sender.send(tally.waiting(batch), tally, witness)

    def _row_that_passes(self, after: int) -> list[SpooledRow]:
        """Deliver the next batch, in one attempt, and return a row of it that was accepted.

        It is as small as batches are by now: a large one would hold the next row that is at fault.
        """
        self._batches.forget()
        following = self._spool.take(self._size.rows, after_row_id=after)
        batch = first_batch(following, self._policy.batch_bytes)
        tally = Tally()
        if batch:
            tally.add(batch, self._sender.attempt(batch))
            self._end(tally, kept=())
        return [row for row in batch if row.row_id in tally.accepted[:1]]

    def _end(self, tally: Tally, kept: Sequence[int]) -> None:
        """Settle rows; those that the store took are marked beside the next batch."""
        self._batches.passed(tally.accepted)
        if tally.rejected or kept:
            self._spool.acknowledge(rejected=list(tally.rejected.items()), kept=kept)
        self._counts.update(
            accepted=len(tally.accepted), rejected=len(tally.rejected), kept=len(kept)
        )
        if tally.rejected:
            # What the server said may quote the line: it goes to the dead letter, not to the log.
            logger.warning("new dead letters: %d refused by the store", len(tally.rejected))

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

    def _passed(self, tally: Tally) -> None:
        """Note a batch that ended; one that was halved tells nothing of the store's health."""
        if tally.accepted or tally.rejected:
            self._pause = None
            self._size.grow()
            self._become("idle", "ok")
            if not tally.was_halved:
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
