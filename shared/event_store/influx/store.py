"""The event store in InfluxDB: InfluxQL alone, which 1.8, 2.x, Cloud and 3 all understand."""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from shared.core.event import UsageEvent
from shared.core.ids import clean_label
from shared.core.rows import HostRow, UnmeteredRow, UserRow
from shared.core.time import from_ms
from shared.delivery.port import WriteResult
from shared.errors import DeliveryError, Misconfigured
from shared.event_store.influx.influxql import (
    FINGERPRINTED,
    Queries,
    bounds,
    is_on_seconds,
    outward,
)
from shared.event_store.influx.points import (
    read_events,
    read_group,
    read_hosts,
    read_identities,
    read_unmetered,
    read_users,
)
from shared.event_store.influx.query import InfluxQuery, Series
from shared.event_store.influx.write import InfluxSettings, InfluxSink
from shared.event_store.overlaps import EventIdentity, find_overlaps
from shared.event_store.port import Fingerprint, StoreHealth, UsageGroup, Window
from shared.event_store.sums import STORED, add_up, fingerprint_events
from shared.spool.port import SpooledRow

_INT64_MAX = 2**63 - 1
# Looking up more bills than that takes longer than reading the ids of a day.
_RARE_MAX = 20_000
_Found = TypeVar("_Found")


class InfluxStore:
    """An EventStore in InfluxDB."""

    name = "influxdb"
    shows_batches_whole = False

    def __init__(self, settings: InfluxSettings, query_timeout_seconds: float = 60.0) -> None:
        self._settings = settings
        self._sink = InfluxSink(settings)
        self._query = InfluxQuery(settings, query_timeout_seconds)
        self._queries = Queries(settings.measurement)

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        """Write rows down as lines."""
        return self._sink.prepare(rows)

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write rows of any kind in one request."""
        return self._sink.write(rows)

    def usage(self, window: Window) -> list[UsageGroup]:
        """Add up all events of the window, observation by observation."""
        if not is_on_seconds(window):
            return add_up(self.events(window))
        groups = self._query.ask(self._queries.sums, bounds(window))
        found = [(group.tags, _named(group, group.rows[0])) for group in groups]
        if self._may_overflow(window, [*STORED.values()], [sums["events"] for _, sums in found]):
            return add_up(self.events(window))
        return [read_group(tags, sums) for tags, sums in found]

    def repeated(self, window: Window) -> list[UsageEvent]:
        """Return the events of every bill that was observed more than once in the window.

        Most such bills were seen by two sources, of which one has few events: to look up the bills
        of that one takes less than half as long as to read every id. It is enough when it accounts
        for all that the server counted.
        """
        answer = self._query.ask(self._queries.uniqueness, bounds(outward(window)))
        repeats = sum(row[1] - row[2] for series in answer for row in series.rows)
        if not repeats:
            return []
        events = list(self.events_about(window, self._bills_of_rare_sources(window)))
        if len(events) - len({event.request_id for event in events}) == repeats:
            return events
        found = find_overlaps(self.identities(window, answers=False))
        return list(self.events_about(window, found.request_ids))

    def grains(self, window: Window) -> set[str]:
        """Return which of `generation` and `turn` the events of the window are."""
        if not is_on_seconds(window):
            return {event.grain for event in self.events(window)}
        answer = self._query.ask(self._queries.grains, bounds(window))
        return {row[1] for series in answer for row in series.rows}

    def identities(self, window: Window, *, answers: bool) -> Iterator[EventIdentity]:
        """Return the identity of every event of the window and of the seconds that it cuts."""
        query = self._queries.answers if answers else self._queries.bills
        for series in self._query.stream(query, bounds(outward(window))):
            yield from read_identities(series)

    def events(self, window: Window) -> Iterator[UsageEvent]:
        """Return all events of the window, every observation once, in the order of their time."""
        return self._events(self._queries.events, window)

    def events_about(
        self,
        window: Window,
        request_ids: Collection[str] = (),
        message_ids: Collection[str] = (),
    ) -> Iterator[UsageEvent]:
        """Return those events of the window that have one of these ids.

        The server looks at every event for each request: so many ids go into one.
        """
        yield from self._events_by("request_id", request_ids, window)
        bills = set(request_ids)
        for event in self._events_by("message_id", message_ids, window):
            if event.request_id not in bills:
                yield event

    def fingerprints(self, window: Window) -> dict[datetime, Fingerprint]:
        """Return what each 15-minute bucket of the window holds."""
        if not is_on_seconds(window):
            return fingerprint_events(self.events(window))
        answer = self._query.ask(self._queries.fingerprints, bounds(window))
        found = [_named(series, row) for series in answer for row in series.rows]
        if self._may_overflow(window, FINGERPRINTED, [sums["events"] for sums in found]):
            return fingerprint_events(self.events(window))
        return {
            from_ms(sums["time"] // 10**9 * 1000): Fingerprint(
                sums["events"], sums["cost_pico_usd"], sums["total_tokens"]
            )
            for sums in found
        }

    def unmetered(self, window: Window) -> list[UnmeteredRow]:
        """Return the unmetered rows of the window in the order of their time."""
        found = self._rows(self._queries.unmetered, read_unmetered, outward(window))
        return [row for row in found if window.start <= row.occurred_at < window.end]

    def hosts(self) -> list[HostRow]:
        """Return the newest row of every host."""
        found = self._rows(self._queries.hosts, read_hosts, None)
        return sorted(found, key=lambda row: row.host_id)

    def users(self) -> list[UserRow]:
        """Return the newest row of every user."""
        found = self._rows(self._queries.users, read_users, None)
        return sorted(found, key=lambda row: row.user_id)

    def delete_import(self, import_id: str) -> int:
        """Delete exactly the events of one import and return how many there were.

        Raises Misconfigured on a server that cannot delete (InfluxDB 3), or did not.
        """
        source = clean_label(f"import:{import_id}", "")
        before = self._count_of_source(source)
        if before:
            self._delete_source(source)
            if left := self._count_of_source(source):
                raise Misconfigured(f"{left} of {before} events of {source} were not deleted")
        return before

    def delete_profile(self, user_id: str) -> None:
        """Delete every name of a user. Raises Misconfigured on a server that cannot delete."""
        if not self._query.delete(self._queries.profile_predicate(user_id)):
            self._query.ask(self._queries.delete_profile(user_id), write=True)

    def health(self) -> StoreHealth:
        """Ask the bucket; never raises."""
        try:
            self._query.ask("SHOW MEASUREMENTS LIMIT 1")
            tags = self._query.ask(self._queries.tag_keys)
            version = self._query.version()
        except DeliveryError as error:
            return StoreHealth(False, str(error))
        where = f"InfluxDB {version}, bucket {self._settings.bucket}"
        if any(row[0] == "request_id" for series in tags for row in series.rows):
            return StoreHealth(
                False,
                f"{where}: the measurement {self._settings.measurement} is the original system's; "
                "set INFLUXDB_MEASUREMENT to a new name",
            )
        return StoreHealth(True, where)

    def close(self) -> None:
        """Close the connections."""
        self._sink.close()
        self._query.close()

    def _events(self, query: str, window: Window) -> Iterator[UsageEvent]:
        for series in self._query.stream(query, bounds(outward(window))):
            for event in read_events(series):
                if window.start <= event.occurred_at < window.end:
                    yield event

    def _events_by(
        self, field: str, values: Collection[str], window: Window
    ) -> Iterator[UsageEvent]:
        for query in self._queries.events_by(field, values):
            yield from self._events(query, window)

    def _rows(
        self, query: str, read: Callable[[Series], Iterator[_Found]], window: Window | None
    ) -> list[_Found]:
        answer = self._query.ask(query, bounds(window) if window else None)
        return [row for series in answer for row in read(series)]

    def _may_overflow(self, window: Window, fields: Sequence[str], counts: Sequence[int]) -> bool:
        """Tell whether a sum of so many events may pass 63 bits, where InfluxDB wraps in silence.

        By the largest summand of all: asked after the sums, so that it is one of theirs at least.
        """
        peaks = self._queries.peaks(fields)
        answer = self._query.ask(peaks, bounds(window)) if counts else []
        values = [value or 0 for series in answer for row in series.rows for value in row[1:]]
        return max(counts, default=0) * max(values, default=0) > _INT64_MAX

    def _bills_of_rare_sources(self, window: Window) -> set[str]:
        """Return the bills of all sources but the largest; none when they are too many."""
        span = bounds(outward(window))
        answer = self._query.ask(self._queries.sources, span)
        counts = {series.tags["source"]: series.rows[0][1] for series in answer}
        rare = sorted(counts, key=counts.__getitem__)[:-1]
        if sum(counts[source] for source in rare) > _RARE_MAX:
            return set()
        return {
            row[1]
            for source in rare
            for series in self._query.stream(
                self._queries.bills_of_source, span | {"source": source}
            )
            for row in series.rows
        }

    def _count_of_source(self, source: str) -> int:
        answer = self._query.ask(self._queries.count_of_source, {"source": source})
        return sum(row[1] for series in answer for row in series.rows)

    def _delete_source(self, source: str) -> None:
        """Delete by the interface of 2.x, or by the query of 1.x, which takes no parameters."""
        if not self._query.delete(self._queries.source_predicate(source)):
            self._query.ask(self._queries.delete_source(source), write=True)


def _named(series: Series, row: Sequence[Any]) -> dict[str, Any]:
    return {name: value or 0 for name, value in zip(series.columns, row, strict=True)}
