"""A spool in use: the settings it was opened with, what is counted, and its thread."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pipelines.src.in_flight import OpenGenerations
from pipelines.src.settings import PluginSettings
from pipelines.src.version import VERSION
from shared.core.clock import Clock
from shared.core.event import UsageEvent
from shared.core.rows import HostRow, Row
from shared.delivery.delivery import Delivery, DeliveryPolicy, DeliveryStatus
from shared.delivery.latency import Latencies
from shared.delivery.thread import DeliveryThread
from shared.errors import InvalidEvent, SpoolError, UsageError
from shared.event_store.influx.write import InfluxSink
from shared.spool.port import SpoolStatus
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool, put_within

logger = logging.getLogger("owui_usage")

HostKind = Literal["function", "pipeline"]
Overdue = Callable[[PluginSettings, datetime], Sequence[Row]]
# From an organization and the time: an event and the problem of its cost, or InvalidEvent.
Draft = Callable[[str, datetime], tuple[UsageEvent, str | None]]

# 250 ms in all: in a Function a hook may have waited for the host's own settings before.
WAIT_SECONDS: Mapping[HostKind, float] = {"function": 0.2, "pipeline": 0.25}
TICK_SECONDS = 1.0
_REFRESH_SECONDS = 30.0
# A host without its plugin is noticed within a minute.
_HEARTBEAT_SECONDS = 20.0
_LEASE_SECONDS = 10.0
# How long a stopped session stays open for hooks that still use it, and how often it looks.
_HOOKS_SECONDS, _HOOKS_POLL_SECONDS = 10.0, 0.01
_LAST_STEP_SECONDS = 0.1
_LOG_INTERVAL_SECONDS = 20.0
_LOGGED_REASONS_MAX = 256


class Counters:
    """Totals since the plugin was loaded, by reason; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, int] = {}
        self._logged_at: dict[str, float] = {}

    def count(self, reason: str) -> None:
        with self._lock:
            self._totals[reason] = self._totals.get(reason, 0) + 1

    def warn_throttled(self, reason: str, detail: object) -> None:
        """Count, and log each reason at most every 20 s: an outage must not fill the host's disk.

        `detail` names what happened, never what a person wrote.
        """
        self.count(reason)
        now = time.monotonic()
        with self._lock:
            if now - self._logged_at.get(reason, float("-inf")) < _LOG_INTERVAL_SECONDS:
                return
            if len(self._logged_at) >= _LOGGED_REASONS_MAX:
                self._logged_at.clear()
            self._logged_at[reason] = now
        logger.warning("%s: %s", reason, detail)

    def totals(self) -> dict[str, int]:
        with self._lock:
            return dict(self._totals)


@dataclass(frozen=True, kw_only=True)
class Host:
    """The identity of a loaded plugin in its heartbeats."""

    kind: HostKind
    host_id: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class PluginStatus:
    """How a plugin is doing.

    `counters` are those of its hooks and its thread, the spool counts for itself. `spool` is None
    when the file cannot be read, `delivery` when the sidecar delivers.
    """

    message: str
    counters: Mapping[str, int]
    spool_path: Path
    spool: SpoolStatus | None
    spool_counters: Mapping[str, int]
    delivery: DeliveryStatus | None


class SpoolSession:
    """A spool in use. Its thread holds no reference to the plugin, so that the host can drop it.

    Hooks use it as a context manager: it stays open while one of them is in it. `overdue` returns
    the rows that time alone makes due. `stop` may be called from any thread and does not wait; the
    thread commits what waits and closes the spool.
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
        self.open = OpenGenerations()
        self.spool = SqliteSpool(
            settings.spool_dir / f"{host.kind}.sqlite3",
            settings=SpoolSettings(
                max_bytes=settings.spool_max_bytes, max_cost_usd=settings.max_cost_usd
            ),
            clock=clock,
        )
        self._counters = counters
        self._overdue = overdue
        self._hook_latencies = Latencies()
        # One entry per hook that uses the session: appending and popping need no lock.
        self._hooks: list[None] = []
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
        """Wait as `join` does, without blocking the event loop."""
        if self._thread is not None:
            await asyncio.wait({asyncio.wrap_future(self._closed)}, timeout=seconds)
        return self.join(_LAST_STEP_SECONDS)

    def __enter__(self) -> Self:
        self._hooks.append(None)
        return self

    def __exit__(self, *_error: object) -> None:
        self._hooks.pop()

    async def book(self, draft: Draft) -> UsageEvent | None:
        """Build an event and queue it durably; return it when others may rely on it."""
        event = self._build(draft)
        return event if event is not None and await self.put([event]) else None

    def track(self, draft: Draft) -> None:
        """Remember a generation that has begun, without waiting for the disk."""
        event = self._build(draft)
        if event is not None:
            self.spool.track(event)

    async def put(self, rows: Sequence[Row]) -> bool:
        """Queue rows durably; True when they are in the spool, or will be in a moment.

        An answer never waits longer than `WAIT_SECONDS` for a slow disk, the commit goes on.
        """
        if not rows:
            return True
        began = time.perf_counter()
        try:
            outcomes = await put_within(self.spool, rows, WAIT_SECONDS[self.host.kind])
        except SpoolError as error:
            self._counters.warn_throttled("not_spooled", error)
            return False
        self._hook_latencies.add((time.perf_counter() - began) * 1000)
        return outcomes is None or "refused" not in outcomes

    def status(self) -> PluginStatus:
        delivery = self._delivery.status() if self._delivery is not None else None
        try:
            spool = self.spool.status()
        except SpoolError:
            spool = None
        return PluginStatus(
            message=self._message(delivery),
            counters=self._counters.totals(),
            spool_path=self.spool.path,
            spool=spool,
            spool_counters=self.spool.counters(),
            delivery=delivery,
        )

    def heartbeat(self) -> HostRow:
        """Return the row by which the sidecar knows how this host is doing."""
        spool = self.spool.status()
        delivery = self._delivery.status() if self._delivery is not None else None
        now = self.clock.now()
        oldest = spool.oldest_queued_at
        return HostRow(
            host_id=self.host.host_id,
            occurred_at=now,
            host_kind=self.host.kind,
            version=VERSION,
            started_at=self.host.started_at,
            delivery_state=delivery.state if delivery else "spooling",
            breaker=delivery.breaker if delivery else "closed",
            message=self._message(delivery),
            queued=spool.queued,
            dead_letters=spool.dead_letters,
            oldest_age_seconds=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
            hook_p50_ms=self._hook_latencies.percentile(50),
            hook_p99_ms=self._hook_latencies.percentile(99),
            write_p50_ms=delivery.write_p50_ms if delivery else None,
            write_p99_ms=delivery.write_p99_ms if delivery else None,
            counters={**self.spool.counters(), **self._counters.totals()},
        )

    def _build(self, draft: Draft) -> UsageEvent | None:
        try:
            event, cost_problem = draft(self.settings.client_org_id, self.clock.now())
        except InvalidEvent as error:
            self._counters.warn_throttled(f"refused_{error.field}", error.reason)
            return None
        if cost_problem is not None:
            reason = f"cost_{cost_problem}"
            self._counters.warn_throttled(reason, f"{event.request_id} is pending")
        return event

    def _message(self, delivery: DeliveryStatus | None) -> str:
        messages = list(self.settings.problems)
        if delivery is not None and delivery.message != "ok":
            messages.append(delivery.message)
        return "; ".join(messages) or "ok"

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
            (self._send_heartbeat, _HEARTBEAT_SECONDS),
        ]
        due = [time.monotonic()] * len(duties)
        while not self._stopping.wait(tick):
            for index, (duty, seconds) in enumerate(duties):
                if time.monotonic() >= due[index]:
                    due[index] = time.monotonic() + seconds
                    self._perform(duty)
        self._wait_for_hooks()
        for duty in (self._refresh, self._send_heartbeat, self._end_delivery, self.spool.close):
            self._perform(duty)
        self._closed.set_result(None)

    def _wait_for_hooks(self) -> None:
        deadline = time.monotonic() + _HOOKS_SECONDS
        while self._hooks and time.monotonic() < deadline:
            time.sleep(_HOOKS_POLL_SECONDS)

    def _end_delivery(self) -> None:
        if self._delivery_thread is not None and self._delivery_thread.stop() and self._sink:
            self._sink.close()

    def _perform(self, duty: Callable[[], None]) -> None:
        name = getattr(duty, "__name__", "duty").strip("_")
        try:
            duty()
        except UsageError as error:
            self._counters.warn_throttled(f"failed_{name}", error)
        except Exception as error:  # noqa: BLE001 the thread must outlive whatever one duty meets
            self._counters.warn_throttled(f"failed_{name}", type(error).__name__)

    def _put_overdue(self) -> None:
        if rows := self._overdue(self.settings, self.clock.now()):
            self.spool.put(rows)

    def _refresh(self) -> None:
        """Keep living generations open, and store how far their running totals have come."""
        for event in self.open.take_grown(self.settings.client_org_id, self.clock.now()):
            self.spool.track(event)
        self.spool.touch(self.open.take_seen())

    def _expire(self) -> None:
        """Book as pending what stayed open, also that of a process that is gone.

        Only who delivers a spool may do the latter: where the sidecar is not there to deliver,
        a short lease makes it this host.
        """
        is_lent = self._delivery is None and self.spool.lease(self.host.host_id, _LEASE_SECONDS)
        try:
            self.spool.expire_open(self.clock.now(), self.settings.quiet_seconds)
        finally:
            if is_lent:
                self.spool.release(self.host.host_id)

    def _send_heartbeat(self) -> None:
        self.spool.put([self.heartbeat()])
