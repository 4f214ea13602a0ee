"""The embedded store as a source: copied event by event."""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from migration_tools.source import DaySpan, PerRequestSource, Remark
from shared.core.days import ONE_DAY, day_start
from shared.core.event import UsageEvent
from shared.core.ids import digest
from shared.core.rows import UnmeteredRow, UserRow
from shared.errors import DeliveryError, MigrationError
from shared.event_store.port import Window
from shared.event_store.sqlite.store import EmbeddedStore


class EmbeddedEvents(PerRequestSource):
    """A source whose events keep their ids: in two stores each still counts once."""

    kind = "embedded"
    keeps_source = True
    knows_answers = True

    def __init__(self, path: Path, zone: str) -> None:
        if not path.is_file():
            raise MigrationError(f"{path}: there is no such event store")
        super().__init__(zone)
        self._store = EmbeddedStore(path)
        # The path distinguishes two stores; their events have ids of their own.
        self.identity = digest(["embedded", str(path.resolve())], size=4)

    def events(
        self, span: DaySpan, label: str, remark: Callable[[Remark], None]
    ) -> Iterator[UsageEvent]:
        """Return all events by time, those of one instant by id."""
        try:
            found = self._store.events(self._window(span))
            for _, together in groupby(found, key=lambda event: event.occurred_at):
                yield from sorted(together, key=lambda event: event.event_id)
        except DeliveryError as error:
            raise MigrationError(str(error)) from error

    def side_rows(self, span: DaySpan) -> Iterator[UnmeteredRow | UserRow]:
        yield from self._store.unmetered(self._window(span))
        yield from self._store.users()

    def close(self) -> None:
        self._store.close()

    def _window(self, span: DaySpan) -> Window:
        return Window(day_start(span.first, self._zone), day_start(span.last + ONE_DAY, self._zone))
