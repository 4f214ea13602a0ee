"""A spool in memory and a clock that is set by hand, for tests of what drains a spool."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from threading import Event

from shared.core.ids import point_time_ns
from shared.core.rows import Row
from shared.spool.port import SpooledRow
from tests.support.builders import NOON


class SetClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class RecordedStop(Event):
    """A stop event whose waits take no time: they move the clock and are written down."""

    def __init__(self, clock: SetClock) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.clock.move(timeout or 0.0)
        return self.is_set()


def spooled(rows: Sequence[Row], first_id: int = 1) -> list[SpooledRow]:
    """Return rows as a spool hands them to delivery."""
    return [
        SpooledRow(
            row_id=first_id + position,
            kind=row.kind,
            event_id=row.event_id,
            json=row.to_json(),
            point_time_ns=point_time_ns(
                row.event_id, getattr(row, "request_id", ""), row.occurred_at
            ),
            attempts=0,
        )
        for position, row in enumerate(rows)
    ]


class MemorySpool:
    """A spool in memory that does no more than delivery asks of it."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self.queue = spooled(rows)
        self.accepted: list[int] = []
        self.dead: dict[int, str] = {}
        self.kept: list[int] = []
        self.holder: str | None = None
        self.leases = 0

    def take(self, limit: int, after_row_id: int = 0) -> list[SpooledRow]:
        return [row for row in self.queue if row.row_id > after_row_id][:limit]

    def acknowledge(
        self,
        accepted: Sequence[int] = (),
        rejected: Sequence[tuple[int, str]] = (),
        kept: Sequence[int] = (),
    ) -> None:
        self.accepted += accepted
        self.dead |= dict(rejected)
        self.kept += kept
        gone = {*accepted, *self.dead}
        self.queue = [row for row in self.queue if row.row_id not in gone]

    def lease(self, owner: str, seconds: float) -> bool:
        self.leases += 1
        if self.holder in (None, owner):
            self.holder = owner
        return self.holder == owner

    def release(self, owner: str) -> None:
        if self.holder == owner:
            self.holder = None

    def put(self, rows: Sequence[Row]) -> None:
        self.queue += spooled(rows, first_id=len(self.queue) + len(self.accepted) + 1)
