"""What a delivery is told to do, and what it says of itself."""

from dataclasses import dataclass, field
from typing import Literal

from shared.delivery.breaker import Breaker, BreakerState
from shared.delivery.retry import RetrySchedule

DeliveryState = Literal["idle", "standby", "unavailable", "breaker_open", "misconfigured"]


@dataclass(frozen=True, kw_only=True)
class DeliveryPolicy:
    """How batches are cut and how patient delivery is; bytes are of the rows' JSON."""

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
