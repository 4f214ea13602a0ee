"""Status: how the sidecar is set up and how delivery does, in the words of the original system."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from scheduler.monitoring.heartbeat import SpoolState
from scheduler.process.running import RunningSidecar


@dataclass(frozen=True, kw_only=True)
class SpoolReport:
    """A spool with its delivery. Latencies are milliseconds."""

    name: str
    queued: int
    dead_letters: int
    quarantined: int
    open_generations: int
    oldest_age_seconds: float
    size_bytes: int
    size_limit_bytes: int
    delivery: str
    breaker: str
    message: str
    write_p50_ms: float | None
    write_p99_ms: float | None


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """Setup and state of the sidecar. Latencies are milliseconds.

    `mixed_days` are days of the last week on which whole answers and generations that a webhook or
    an import saw were both billed: maybe the same traffic twice.
    """

    influxdb_first_enabled: bool
    influxdb_first_mode: bool
    note: str
    version: str
    role: Literal["active", "passive"]
    event_store: str
    webhook_store: str
    summary_database: str
    breaker: str
    write_p50_ms: float | None
    write_p99_ms: float | None
    mixed_days: list[date]
    spools: list[SpoolReport]


def service_status(sidecar: RunningSidecar) -> ServiceStatus:
    settings = sidecar.settings
    spools = [_spool_report(state, sidecar.clock.now()) for state in sidecar.spool_states()]
    slow = [spool for spool in spools if spool.write_p99_ms is not None]
    slowest = max(slow, key=lambda spool: spool.write_p99_ms or 0.0, default=None)
    is_first = settings.influxdb_first_enabled
    return ServiceStatus(
        influxdb_first_enabled=is_first,
        influxdb_first_mode=settings.webhook_to_influx,
        note="InfluxDB first" if is_first else "Legacy mode: events live in the embedded store",
        version=sidecar.version,
        role="active" if sidecar.is_active else "passive",
        event_store=sidecar.store.name,
        webhook_store=sidecar.store.webhook_sink.name,
        summary_database=sidecar.summaries.transactions.database,
        breaker=_worst([spool.breaker for spool in spools]),
        write_p50_ms=slowest.write_p50_ms if slowest else None,
        write_p99_ms=slowest.write_p99_ms if slowest else None,
        mixed_days=sidecar.mixed_days(sidecar.clock.now().date()),
        spools=spools,
    )


def _spool_report(state: SpoolState, now: datetime) -> SpoolReport:
    status, delivery = state.status, state.delivery
    oldest = status.oldest_queued_at
    age = (now - oldest).total_seconds() if oldest else 0.0
    return SpoolReport(
        name=state.name,
        queued=status.queued,
        dead_letters=status.dead_letters,
        quarantined=status.quarantined,
        open_generations=status.open_generations,
        oldest_age_seconds=max(0.0, age),
        size_bytes=status.size_bytes,
        size_limit_bytes=status.size_limit_bytes,
        delivery=delivery.state,
        breaker=delivery.breaker,
        message=delivery.message,
        write_p50_ms=delivery.write_p50_ms,
        write_p99_ms=delivery.write_p99_ms,
    )


def _worst(states: list[str]) -> str:
    order = ("open", "half_open", "closed")
    return min(states, key=order.index, default="closed")
