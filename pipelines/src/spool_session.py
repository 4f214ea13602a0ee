"""One recording: a spool, the settings it was opened with, and the thread that looks after it."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipelines.src.counters import Counters
from pipelines.src.function.open_generations import OpenGenerations
from pipelines.src.settings import PluginSettings
from pipelines.src.version import VERSION
from shared.core.clock import Clock
from shared.core.rows import HostRow, Row
from shared.delivery.delivery import Delivery
from shared.delivery.latency import Latencies
from shared.delivery.state import DeliveryPolicy, DeliveryStatus
from shared.delivery.thread import DeliveryThread
from shared.errors import UsageError
from shared.event_store.influx.write import InfluxSink
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool

HostKind = Literal["function", "pipeline"]
Overdue = Callable[[PluginSettings, datetime], Sequence[Row]]
TICK_SECONDS = 1.0
_REFRESH_SECONDS = 30.0
# So often that a host without its plugin is missed within a minute.
_STATEMENT_SECONDS = 20.0
_LEASE_SECONDS = 10.0
_LAST_STEP_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Host:
    """Who a plugin is in the status, from its loading on."""

    kind: HostKind
    host_id: str
    started_at: datetime


class Recording:
    """A spool in use. Its thread knows nothing of the plugin, so that the host can forget that.

    `overdue` returns the rows that time alone makes due. `stop` may be called from any thread and
    does not wait; the thread commits what waits and closes the spool.
    """

    def __init__(
        self,
        host: Host,
        settings: PluginSettings,
        clock: Clock,
        counters: Counters,
        overdue: Overdue,
    ) -> None:
        self.host = host
        self.settings = settings
        self.clock = clock
        self.counters = counters
        self.hook_latencies = Latencies()
        self.open = OpenGenerations()
        self.spool = SqliteSpool(
            settings.spool_dir / f"{host.kind}.sqlite3",
            settings=SpoolSettings(
                max_bytes=settings.spool_max_bytes, max_cost_usd=settings.max_cost_usd
            ),
            clock=clock,
        )
        self._overdue = overdue
        self._stopping = threading.Event()
        self._sink = InfluxSink(settings.influx) if settings.influx is not None else None
        self._delivery = self._make_delivery()
        self._thread: threading.Thread | None = None
        self._closed: Future[None] = Future()
        self._delivery_thread: DeliveryThread | None = None

    def start(self) -> None:
        """Begin to look after the spool, and to deliver it if this host does."""
        if self._delivery is not None:
            self._delivery_thread = DeliveryThread(
                self._delivery, self._stopping, self.settings.flush_seconds
            )
            self._delivery_thread.start()
        self._thread = threading.Thread(
            target=self._keep, name=f"owui_usage {self.host.kind}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread soon, without waiting for it."""
        self._stopping.set()

    def join(self, seconds: float) -> bool:
        """Wait until the thread has closed the spool; False when that takes longer."""
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    async def closed(self, seconds: float) -> bool:
        """Wait as `join` does, without holding up the event loop."""
        if self._thread is not None:
            await asyncio.wait({asyncio.wrap_future(self._closed)}, timeout=seconds)
        return self.join(_LAST_STEP_SECONDS)

    def state(self) -> HostRow:
        """Say how this host is doing."""
        status = self.spool.status()
        delivery = self._delivery.status() if self._delivery is not None else None
        now = self.clock.now()
        oldest = status.oldest_queued_at
        return HostRow(
            host_id=self.host.host_id,
            occurred_at=now,
            host_kind=self.host.kind,
            version=VERSION,
            started_at=self.host.started_at,
            delivery_state=delivery.state if delivery else "spooling",
            breaker=delivery.breaker if delivery else "closed",
            message="; ".join(self._messages(delivery)) or "ok",
            queued=status.queued,
            dead_letters=status.dead_letters,
            oldest_age_seconds=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
            hook_p50_ms=self.hook_latencies.percentile(50),
            hook_p99_ms=self.hook_latencies.percentile(99),
            write_p50_ms=delivery.write_p50_ms if delivery else None,
            write_p99_ms=delivery.write_p99_ms if delivery else None,
            counters={**self.spool.counters(), **self.counters.totals()},
        )

    def _messages(self, delivery: DeliveryStatus | None) -> list[str]:
        is_well = delivery is None or delivery.message == "ok"
        return [
            *self.settings.problems,
            *([] if is_well or delivery is None else [delivery.message]),
        ]

    def _make_delivery(self) -> Delivery | None:
        if self._sink is None:
            return None
        policy = DeliveryPolicy(batch_rows=self.settings.batch_rows)
        owner = self.host.host_id
        return Delivery(self.spool, self._sink, owner, self.clock, policy, self._stopping)

    def _keep(self) -> None:
        shortest = min(self.settings.quiet_seconds, self.settings.answer_wait_seconds) / 4
        tick, refresh = min(TICK_SECONDS, shortest), min(_REFRESH_SECONDS, shortest)
        duties: list[tuple[Callable[[], None], float]] = [
            (self._put_overdue, tick),
            (self._refresh, refresh),
            (self._expire, refresh),
            (self._state, _STATEMENT_SECONDS),
        ]
        due = [time.monotonic()] * len(duties)
        while not self._stopping.wait(tick):
            for index, (duty, seconds) in enumerate(duties):
                if time.monotonic() >= due[index]:
                    due[index] = time.monotonic() + seconds
                    self._perform(duty)
        for duty in (self._refresh, self._state, self._end_delivery, self.spool.close):
            self._perform(duty)
        self._closed.set_result(None)

    def _end_delivery(self) -> None:
        if self._delivery_thread is not None and self._delivery_thread.stop() and self._sink:
            self._sink.close()

    def _perform(self, duty: Callable[[], None]) -> None:
        name = getattr(duty, "__name__", "duty").strip("_")
        try:
            duty()
        except UsageError as error:
            self.counters.complain(f"failed_{name}", error)
        except Exception as error:  # noqa: BLE001 the thread must outlive whatever one duty meets
            self.counters.complain(f"failed_{name}", type(error).__name__)

    def _put_overdue(self) -> None:
        if rows := self._overdue(self.settings, self.clock.now()):
            self.spool.put(rows)

    def _refresh(self) -> None:
        """Keep living generations open, and write down how far their running totals have come."""
        for event in self.open.take_grown(self.settings.client_org_id, self.clock.now()):
            self.spool.track(event)
        self.spool.touch(self.open.take_seen())

    def _expire(self) -> None:
        """Book as pending what stayed open, also that of a process that is gone.

        Whoever delivers this spool does the latter; where nobody does, a short lease makes it us.
        """
        is_lent = self._delivery is None and self.spool.lease(self.host.host_id, _LEASE_SECONDS)
        try:
            self.spool.expire_open(self.clock.now(), self.settings.quiet_seconds)
        finally:
            if is_lent:
                self.spool.release(self.host.host_id)

    def _state(self) -> None:
        self.spool.put([self.state()])
