"""Holding what an event store has against what was billed, read from the store's own files."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from demo.processes import wait_for
from tests.faults.traffic import Bill
from tests.support.services.influx import InfluxServer

_PICO = Decimal("1e-12")
# Request id and amount, the amount missing while a cost is pending.
Point = tuple[str, Decimal | None]


@dataclass(frozen=True)
class Books:
    """The usage events of one store; `bucket` is where they are in InfluxDB."""

    points: Callable[[], list[Point]]
    bucket: str = ""

    def settle(
        self, bill: Bill, has_come_to_rest: Callable[[], bool], seconds: float = 120
    ) -> None:
        """Wait for everything that was promised, then compare to the last digit.

        What was sent without a promise may be there or not, but once and at its price.
        """
        assert bill.promised, "no hook returned: nothing was tried"
        wait_for(lambda: self._has_all(bill), "every promised event in the store", seconds)
        wait_for(has_come_to_rest, "an empty spool", seconds)
        self.compare(bill)

    def compare(self, bill: Bill) -> None:
        """Compare as it stands."""
        points = self.points()
        times = Counter(request_id for request_id, _ in points)
        double = {request_id: number for request_id, number in times.items() if number > 1}
        assert not double
        assert not bill.promised - times.keys(), "lost"
        assert not times.keys() - bill.sent.keys(), "never sent"
        assert dict(points) == {request_id: bill.sent[request_id] for request_id in times}
        billed = sum((bill.sent[request_id] for request_id in times), Decimal(0))
        assert sum((cost or Decimal(0) for _, cost in points), Decimal(0)) == billed

    def _has_all(self, bill: Bill) -> bool:
        return bill.promised <= {request_id for request_id, _ in self.points()}


def influx_books(server: InfluxServer, bucket: str) -> Books:
    """Return the books in a bucket, asked of the server directly."""
    return Books(partial(_influx_points, server, bucket), bucket)


def embedded_books(path: Path) -> Books:
    """Return the books in the file of an embedded store, which may not be there yet."""
    return Books(partial(_embedded_points, path))


def _influx_points(server: InfluxServer, bucket: str) -> list[Point]:
    # InfluxDB shows the fields of a point one by one while it is being written: an amount may be
    # missing for a moment.
    asked = server.query("SELECT request_id, cost_pico_usd FROM usage_events", bucket)
    return [
        (request_id, None if cost is None else cost * _PICO)
        for series in asked.get("series", ())
        for _, request_id, cost in series["values"]
    ]


def _embedded_points(path: Path) -> list[Point]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
            return []
        found = db.execute("SELECT request_id, cost_pico_usd FROM events").fetchall()
    return [(request_id, None if cost is None else cost * _PICO) for request_id, cost in found]
