"""Finding the bills that InfluxDB holds several observations of, by the cheapest way there is."""

from shared.core.event import UsageEvent
from shared.event_store.influx.influxql import Statements
from shared.event_store.influx.query import InfluxQuery
from shared.event_store.influx.windows import bounds, outward
from shared.event_store.overlaps import entangle
from shared.event_store.port import EventStore, Window

# Looking up more bills than that takes longer than reading the ids of a day.
_RARE_MAX = 20_000


def repeated_events(
    store: EventStore, query: InfluxQuery, statements: Statements, window: Window
) -> list[UsageEvent]:
    """Return the events of every bill that was observed more than once in the window.

    Most such bills are told by two sources, one of which seldom speaks: to look up what that one
    told takes less than half as long as to read every id. It is enough when it accounts for all
    that the server counted.
    """
    answer = query.ask(statements.uniqueness, bounds(outward(window)))
    repeats = sum(row[1] - row[2] for series in answer for row in series.rows)
    if not repeats:
        return []
    events = list(store.events_about(window, _bills_of_rare_sources(query, statements, window)))
    if len(events) - len({event.request_id for event in events}) == repeats:
        return events
    found = entangle(store.identities(window, answers=False))
    return list(store.events_about(window, found.request_ids))


def _bills_of_rare_sources(query: InfluxQuery, statements: Statements, window: Window) -> set[str]:
    """Return the bills of all sources but the largest; none when they are too many."""
    span = bounds(outward(window))
    answer = query.ask(statements.sources, span)
    counts = {series.tags["source"]: series.rows[0][1] for series in answer}
    rare = sorted(counts, key=counts.__getitem__)[:-1]
    if sum(counts[source] for source in rare) > _RARE_MAX:
        return set()
    return {
        row[1]
        for source in rare
        for series in query.stream(statements.bills_of_source, span | {"source": source})
        for row in series.rows
    }
