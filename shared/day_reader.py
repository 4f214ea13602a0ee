"""Reading one local day of the event store and adding it up for its organizations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared.day_books import DayBooks, DayReading
from shared.domain.days import ZoneDay, day_bounds, spans_around, split_span
from shared.domain.event import UsageEvent
from shared.domain.organization import Directory
from shared.domain.resolution import TURN_SLACK, resolve
from shared.domain.rows import UnmeteredRow
from shared.ports import EventStore, UsageGroup, Window

EDGE = timedelta(hours=1)
# Each part of a split day is a query of its own; beyond this, one pass over the events is cheaper.
MAX_PARTS = 24


@dataclass(frozen=True)
class DayReader:
    """Adds up one day of all organizations of a zone, from one event store."""

    store: EventStore
    turns: Literal["bill", "observe"] = "bill"

    def read(
        self, day: ZoneDay, directory: Directory, *, event_by_event: bool = False
    ) -> DayReading:
        """Read a day: as sums where every bill was observed once, else event by event.

        Both ways give the same facts. Raises DeliveryError when the store cannot be read.
        """
        books = DayBooks(day, directory)
        window = day_window(day)
        if not event_by_event and self._add_sums(books, window):
            rows = self.store.unmetered(window)
            books.add_unmetered(rows, self._events_around(rows))
            return books.reading(was_resolved=False)
        events = list(self.store.events(with_edges(window)))
        books.add_resolution(resolve(events, turns=self.turns), events, window)
        rows = self.store.unmetered(window)
        spans = _answer_spans(rows)
        books.add_unmetered(rows, (event for event in events if _is_within(event, spans)))
        return books.reading(was_resolved=True)

    def _add_sums(self, books: DayBooks, window: Window) -> bool:
        """Add the day from the store's sums; False, and nothing added, where they may be wrong."""
        parts = split_span(
            window.start, window.end, books.directory.moves_between(window.start, window.end)
        )
        if self.turns == "observe" or len(parts) > MAX_PARTS or not self.store.is_unique(window):
            return False
        sums = [(start, self.store.usage(Window(start, end))) for start, end in parts]
        edges = [
            self.store.usage(Window(window.start - EDGE, window.start)),
            self.store.usage(Window(window.end, window.end + EDGE)),
        ]
        if _is_mixed([*(groups for _, groups in sums), *edges]):
            return False
        for start, groups in sums:
            for group in groups:
                books.add_group(group, start)
        return True

    def _events_around(self, rows: Sequence[UnmeteredRow]) -> Iterable[UsageEvent]:
        for start, end in _answer_spans(rows):
            yield from self.store.events(Window(start, end))


def day_window(day: ZoneDay) -> Window:
    """Return the span of UTC that a local day is."""
    return Window(*day_bounds(day.local_date, day.time_zone))


def with_edges(window: Window) -> Window:
    """Return a window with the hour on either side in which observations of its bills may lie."""
    return Window(window.start - EDGE, window.end + EDGE)


def _is_mixed(groups: Iterable[Sequence[UsageGroup]]) -> bool:
    """Tell whether whole answers may stand beside generations of the same answers."""
    sources = {group.source for part in groups for group in part}
    return "pipeline" in sources and bool(sources - {"pipeline", "manual"})


def _answer_spans(rows: Sequence[UnmeteredRow]) -> list[tuple[datetime, datetime]]:
    """Return when an event that explains one of the rows would have occurred.

    Only answers are explained; a background task has no message of its own.
    """
    answers = [row.occurred_at for row in rows if not row.request_id.startswith("task:")]
    return spans_around(answers, before=TURN_SLACK, after=EDGE)


def _is_within(event: UsageEvent, spans: Sequence[tuple[datetime, datetime]]) -> bool:
    return any(start <= event.occurred_at < end for start, end in spans)
