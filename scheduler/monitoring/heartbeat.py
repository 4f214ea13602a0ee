"""Heartbeat: the status row of a sidecar, and the states of its spools and jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.core.rows import HostRow
from shared.delivery.delivery import DeliveryStatus
from shared.spool.port import SpoolStatus


@dataclass(frozen=True)
class SpoolState:
    """A spool of the shared folder, with its delivery."""

    name: str
    status: SpoolStatus
    delivery: DeliveryStatus


@dataclass(frozen=True, kw_only=True)
class ScheduleLine:
    """A job of the schedule, with its last and its next run."""

    name: str
    purpose: str
    started_at: datetime | None
    succeeded_at: datetime | None
    seconds: float | None
    error: str | None
    next_run_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    host_id: str
    version: str
    started_at: datetime


def sidecar_heartbeat(
    identity: ProcessIdentity,
    spools: Sequence[SpoolStatus],
    deliveries: Sequence[DeliveryStatus],
    counters: dict[str, int],
    *,
    is_active: bool,
    now: datetime,
) -> HostRow:
    """Return the status row: the worst of the deliveries, and the sums of the own spools."""
    worst = next((each for each in deliveries if each.state not in ("idle", "standby")), None)
    waiting = [spool.oldest_queued_at for spool in spools if spool.oldest_queued_at is not None]
    return HostRow(
        host_id=identity.host_id,
        occurred_at=now,
        host_kind="sidecar",
        version=identity.version,
        started_at=identity.started_at,
        delivery_state=worst.state if worst else "idle",
        breaker=worst.breaker if worst else "closed",
        message=(worst.message if worst else "ok") if is_active else "passive",
        queued=sum(spool.queued for spool in spools),
        dead_letters=sum(spool.dead_letters for spool in spools),
        oldest_age_seconds=max([0.0, *((now - oldest).total_seconds() for oldest in waiting)]),
        write_p50_ms=_largest([each.write_p50_ms for each in deliveries]),
        write_p99_ms=_largest([each.write_p99_ms for each in deliveries]),
        counters=counters,
    )


def _largest(latencies: Sequence[float | None]) -> float | None:
    return max((each for each in latencies if each is not None), default=None)
