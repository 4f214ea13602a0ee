"""Holding what InfluxDB has against what was billed, asked of the server directly."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from demo.processes import wait_for
from tests.faults.traffic import Bill
from tests.services.influx import InfluxServer

_PICO = Decimal("1e-12")


@dataclass(frozen=True)
class Books:
    """The usage events of one bucket, as the server itself tells them."""

    server: InfluxServer
    bucket: str

    def points(self) -> list[tuple[str, Decimal | None]]:
        """Return request id and amount of every point.

        InfluxDB shows the fields of a point one by one while it is being written: an amount may be
        missing for a moment.
        """
        asked = self.server.query("SELECT request_id, cost_pico_usd FROM usage_events", self.bucket)
        return [
            (request_id, None if cost is None else cost * _PICO)
            for series in asked.get("series", ())
            for _, request_id, cost in series["values"]
        ]

    def settle(self, bill: Bill, has_come_to_rest: Callable[[], bool], seconds: float = 40) -> None:
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
