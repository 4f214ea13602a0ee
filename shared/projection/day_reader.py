"""Reading one local day of the event store and adding it up for its organizations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared.core.days import ZoneDay, day_bounds, spans_around, split_span
from shared.core.event import UsageEvent
from shared.core.rows import UnmeteredRow
from shared.event_store.overlaps import find_overlaps, messages_with_conflicting_ids
from shared.event_store.port import EventStore, Window
from shared.projection.day_sums import DayAggregator, DayReading
from shared.projection.organization import Directory
from shared.projection.resolution import TURN_SLACK, resolve

EDGE = timedelta(hours=1)
# Each span of a split day is a query of its own; beyond this, one pass over the events is cheaper.
MAX_SPANS = 24


@dataclass(frozen=True)
class DayReader:
    """Adds up one day of all organizations of a zone, from one event store."""

    store: EventStore
    turns: Literal["bill", "observe"] = "bill"

    def read(
        self, day: ZoneDay, directory: Directory, *, event_by_event: bool = False
    ) -> DayReading:
        """Read a day: sums of what was observed once, event by event what must be resolved.

        Reading all of it event by event gives the same facts. Raises DeliveryError when the store
        cannot be read, ProjectionError when events vanish meanwhile.
        """
        aggregator = DayAggregator(day, directory)
        window = day_window(day)
        spans = split_span(
            window.start, window.end, directory.moves_between(window.start, window.end)
        )
        overlapping = None
        if not event_by_event and len(spans) <= MAX_SPANS:
            overlapping = self._overlapping(window)
        if overlapping is None:
            events = list(self.store.events(with_edges(window)))
        else:
            events = overlapping
            self._add_sums(aggregator, [Window(*span) for span in spans], overlapping)
        aggregator.add_resolution(resolve(events, turns=self.turns), events, window)
        rows = self.store.unmetered(window)
        aggregator.add_unmetered(
            rows, self._explaining(rows, events if overlapping is None else None)
        )
        return aggregator.reading(was_resolved=bool(overlapping is None or overlapping))

    def _overlapping(self, window: Window) -> list[UsageEvent] | None:
        """Return the events of a day and its edges that are no bills of their own.

        None when that may be any of them: whole answers that are observed only count nowhere.
        """
        wide = with_edges(window)
        grains = self.store.grains(wide)
        if self.turns == "observe" and "turn" in grains:
            return None
        if len(grains) < 2:
            return list(self.store.repeated(wide))
        found = find_overlaps(self.store.identities(wide, answers=True))
        if not found:
            return []
        events = list(self.store.events_about(wide, found.request_ids, found.message_ids))
        if conflicting := messages_with_conflicting_ids(events) - found.message_ids:
            messages = found.message_ids | conflicting
            events = list(self.store.events_about(wide, found.request_ids, messages))
        return events

    def _add_sums(
        self, aggregator: DayAggregator, spans: Sequence[Window], overlapping: Sequence[UsageEvent]
    ) -> None:
        """Add the sums of the store, span by span, without the events that are to be resolved."""
        for span in spans:
            for group in self.store.usage(span):
                aggregator.add_group(group, span.start)
            for event in overlapping:
                if span.start <= event.occurred_at < span.end:
                    aggregator.subtract(event, span.start)

    def _explaining(
        self, rows: Sequence[UnmeteredRow], events: Iterable[UsageEvent] | None
    ) -> Iterable[UsageEvent]:
        """Return the events that may explain silent inlets, from the store if none are at hand."""
        spans = _answer_spans(rows)
        if spans and events is None:
            around = Window(spans[0][0], spans[-1][1])
            messages = {row.message_id for row in rows if row.message_id}
            events = self.store.events_about(around, {row.request_id for row in rows}, messages)
        return (event for event in events or () if _is_within(event, spans))


def day_window(day: ZoneDay) -> Window:
    """Return the span of UTC that a local day is."""
    return Window(*day_bounds(day.local_date, day.time_zone))


def with_edges(window: Window) -> Window:
    """Return a window with the hour on either side in which observations of its bills may lie."""
    return Window(window.start - EDGE, window.end + EDGE)


def _answer_spans(rows: Sequence[UnmeteredRow]) -> list[tuple[datetime, datetime]]:
    """Return when an event that explains one of the rows would have occurred.

    Only answers are explained; a background task has no message of its own.
    """
    answers = [row.occurred_at for row in rows if not row.request_id.startswith("task:")]
    return spans_around(answers, before=TURN_SLACK, after=EDGE)


def _is_within(event: UsageEvent, spans: Sequence[tuple[datetime, datetime]]) -> bool:
    return any(start <= event.occurred_at < end for start, end in spans)
