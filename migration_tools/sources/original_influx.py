"""The original system's InfluxDB layout: request_id as a tag, cost_usd with the markup in it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from migration_tools.source import DaySpan, PerRequestSource, Remark
from shared.core.days import ONE_DAY, day_start, local_day
from shared.core.event import UNASSIGNED, UsageEvent, new_event
from shared.core.ids import clean_label, digest, is_generation_id
from shared.core.money import PPM, parse_usd
from shared.core.time import from_ms
from shared.errors import DeliveryError, InvalidEvent, MigrationError, UnusableCost
from shared.event_store.influx.influxql import quote_name
from shared.event_store.influx.query import InfluxQuery
from shared.event_store.influx.write import InfluxSettings

MEASUREMENT = "usage_tracking"
_COLUMNS = ("client_org_id", "model", "api_key_hash", "external_user", "request_id",
            "input_tokens", "output_tokens", "total_tokens", "cost_usd", "latency_ms")  # fmt: skip


class OriginalInflux(PerRequestSource):
    """The original's measurement as a source; `rate_ppm` is the markup inside its costs."""

    kind = "original-influx"

    def __init__(
        self, settings: InfluxSettings, zone: str, rate_ppm: int, measurement: str = MEASUREMENT
    ) -> None:
        if not rate_ppm:
            raise MigrationError("a markup of 0 cannot be taken out of a cost; say --markup")
        super().__init__(zone)
        self._query = InfluxQuery(settings)
        self._measurement = measurement
        self._rate_ppm = rate_ppm
        self.identity = digest(["original-influx", settings.bucket, measurement], size=4)

    def events(
        self, span: DaySpan, label: str, remark: Callable[[Remark], None]
    ) -> Iterator[UsageEvent]:
        """Return all points, day by day, by time."""
        rate = Decimal(self._rate_ppm) / PPM
        remark(_remark("markup", f"costs hold the markup: each is divided by {rate}"))
        try:
            for day in self._days(span):
                for point in self._points(day):
                    try:
                        yield self._event(point, label, remark)
                    except InvalidEvent as error:
                        remark(_remark("row", f"point {point['time']}: {error}", left_out=True))
        except DeliveryError as error:
            raise MigrationError(f"the original's measurement: {error}") from error

    def close(self) -> None:
        self._query.close()

    def _days(self, span: DaySpan) -> Iterator[date]:
        """Return the days from the first to the last point."""
        edges = []
        for order in ("ASC", "DESC"):
            query = f"SELECT total_tokens FROM {quote_name(self._measurement)}"  # noqa: S608
            answer = self._query.ask(f"{query} ORDER BY time {order} LIMIT 1")
            edges += [local_day(_time(row[0]), self._zone) for one in answer for row in one.rows]
        if edges:
            day, last = max(span.first, min(edges)), min(span.last, max(edges))
            while day <= last:
                yield day
                day += ONE_DAY

    def _points(self, day: date) -> Iterator[dict[str, Any]]:
        names = ", ".join(quote_name(column) for column in _COLUMNS)
        query = (
            f"SELECT {names} FROM {quote_name(self._measurement)}"  # noqa: S608
            " WHERE time >= $start AND time < $end"
        )
        start, end = day_start(day, self._zone), day_start(day + ONE_DAY, self._zone)
        bound = {"start": f"{start:%Y-%m-%dT%H:%M:%SZ}", "end": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
        for series in self._query.stream(query, bound):
            for row in series.rows:
                yield dict(zip(series.columns, row, strict=True))

    def _event(
        self, point: Mapping[str, Any], label: str, remark: Callable[[Remark], None]
    ) -> UsageEvent:
        request_id = self._request_id(point)
        cost = self._cost(point, request_id, remark)
        tokens = {name: _count(point, name) for name in ("input_tokens", "output_tokens")}
        total = _count(point, "total_tokens") or sum(tokens.values())
        return new_event(
            request_id=request_id,
            grain="generation",
            occurred_at=_time(point["time"]),
            client_org_id=clean_label(point["client_org_id"], UNASSIGNED),
            external_user=clean_label(point["external_user"], "unknown"),
            requested_model=point["model"],
            model=point["model"],
            task="unknown",
            source=label,
            api_key_hash=point["api_key_hash"],
            total_tokens=total,
            cost_usd=cost,
            cost_source="none" if cost is None else "legacy",
            latency_ms=_count(point, "latency_ms") or None,
            **tokens,
        )

    def _request_id(self, point: Mapping[str, Any]) -> str:
        found = point["request_id"]
        if is_generation_id(found):
            return str(found)
        tags = [point[name] for name in _COLUMNS[:5]]
        key = digest([found] if found else [point["time"], *tags])
        return f"legacy:{self.identity}:{MEASUREMENT}:{key}"

    def _cost(
        self, point: Mapping[str, Any], request_id: str, remark: Callable[[Remark], None]
    ) -> Decimal | None:
        try:
            with_markup = parse_usd(point["cost_usd"])
        except UnusableCost as error:
            remark(_remark("cost", f"{request_id}: cost_usd is {error.reason}; pending"))
            return None
        return parse_usd(with_markup * PPM / self._rate_ppm)


def _time(nanoseconds: int) -> datetime:
    return from_ms(nanoseconds // 10**6)


def _count(point: Mapping[str, Any], name: str) -> int:
    value = point[name]
    if value is None:
        return 0
    if value < 0 or value != int(value):
        raise InvalidEvent("not_a_count", name, value)
    return int(value)


def _remark(what: str, detail: str, *, left_out: bool = False) -> Remark:
    return Remark(organization_id=UNASSIGNED, what=what, detail=detail, left_out=left_out)
