"""The port of the spool: what delivery asks of a durable queue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from shared.core.rows import RowKind

PutOutcome = Literal["queued", "duplicate", "refused", "quarantined"]


@dataclass(frozen=True)
class SpooledRow:
    """A row that waits in a spool; its time in InfluxDB is fixed when it is queued."""

    row_id: int
    kind: RowKind
    event_id: str
    json: str
    point_time_ns: int
    attempts: int


@dataclass(frozen=True, kw_only=True)
class SpoolStatus:
    """Counts of a spool: rows by state, bytes, and everything refused or dropped, by reason."""

    queued: int
    dead_letters: int
    quarantined: int
    open_generations: int
    oldest_queued_at: datetime | None
    size_bytes: int
    size_limit_bytes: int
    counters: Mapping[str, int]


class Spool(Protocol):
    """What delivery asks of a durable queue; methods may be called from any thread."""

    def take(self, limit: int, after_row_id: int = 0) -> list[SpooledRow]:
        """Return the oldest queued rows, at most `limit`, without changing them."""

    def acknowledge(
        self,
        accepted: Sequence[int] = (),
        rejected: Sequence[tuple[int, str]] = (),
        kept: Sequence[int] = (),
    ) -> None:
        """End a delivery: accepted rows are done, rejected ones dead letters, kept ones wait."""

    def lease(self, owner: str, seconds: float) -> bool:
        """Become or stay the one that delivers this spool; False while another one is."""

    def release(self, owner: str) -> None:
        """Give up the lease, if it is this owner's."""
