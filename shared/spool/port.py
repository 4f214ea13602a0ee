"""The seam to the disk: what capture and delivery ask of a durable queue."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from shared.core.event import UsageEvent
from shared.core.rows import Row, RowKind

PutOutcome = Literal["queued", "duplicate", "refused", "quarantined"]


@dataclass(frozen=True)
class SpooledRow:
    """A row waiting in a spool. `store_ns` is its place in InfluxDB, fixed when it was queued."""

    row_id: int
    kind: RowKind
    event_id: str
    json: str
    store_ns: int
    attempts: int


@dataclass(frozen=True)
class OpenNote:
    """A generation that has begun: the pending event to book should its usage never come."""

    event: UsageEvent
    last_seen: datetime


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
    """The durable queue between capture and delivery; methods may be called from any thread."""

    def put(self, rows: Sequence[Row]) -> Future[list[PutOutcome]]:
        """Queue rows; the future is done when they would survive a power loss.

        A duplicate of a queued or delivered event is no error. The future ends in SpoolFull or
        another SpoolError when nothing was queued.
        """

    def note_open(self, event: UsageEvent) -> None:
        """Remember a generation that has begun, without waiting for the disk."""

    def note_seen(self, request_ids: Sequence[str]) -> None:
        """Keep open generations of this process from expiring."""

    def take(self, limit: int, after_row_id: int = 0) -> list[SpooledRow]:
        """Return the oldest queued rows, at most `limit`, without changing them."""

    def settle(
        self,
        accepted: Sequence[int] = (),
        rejected: Sequence[tuple[int, str]] = (),
        kept: Sequence[int] = (),
    ) -> None:
        """End a delivery: accepted rows are done, rejected ones dead letters, kept ones wait."""

    def lease(self, owner: str, seconds: float) -> bool:
        """Become or stay the one that delivers this spool; False while another one is."""

    def release(self, owner: str) -> None:
        """Give up the lease."""

    def status(self) -> SpoolStatus:
        """Return counts as of now."""

    def close(self) -> None:
        """Commit what waits and end the writer thread."""
