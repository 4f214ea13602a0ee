"""Writing to a store under test and reading it back, and a store that can be sent away."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from shared.core.event import UsageEvent
from shared.core.rows import HostRow, Row, UserRow
from shared.errors import Unavailable
from shared.event_store.port import EventStore, UsageGroup, Window
from shared.event_store.sqlite.store import EmbeddedStore
from tests.support.builders import (
    ALICE,
    NOON,
    generation_id,
    settled,
)
from tests.support.spools import spooled

HOUR = timedelta(hours=1)
MILLISECOND = timedelta(milliseconds=1)
AFTERNOON = Window(NOON, NOON + 6 * HOUR)
AROUND = Window(NOON - 6 * HOUR, NOON + 6 * HOUR)
AWKWARD = [
    "plain",
    "with space",
    "comma,comma",
    "equals=sign",
    'double "quotes"',
    "single 'quotes'",
    "back\\slash",
    "back\\,slash\\ before\\=specials",
    "\\leading",
    "zażółć gęślą jaźń",
    "模型 🤖",
    "${injection} or 1=1; DROP",
    "percent%20 & amp;",
    "'; DELETE FROM x --",
    "#comment",
    "_underscore",
    "true",
    "123i",
]


def write(store: EventStore, *rows: Row) -> None:
    result = store.write(spooled(rows))
    assert (sorted(result.accepted), result.rejected, result.kept) == (
        list(range(len(rows))),
        [],
        [],
    )


def by_id(events: Iterable[UsageEvent]) -> list[UsageEvent]:
    return sorted(events, key=lambda event: event.event_id)


def read(store: EventStore, window: Window = AROUND) -> list[UsageEvent]:
    return by_id(list(store.events(window)))


def only_group(store: EventStore, window: Window = AROUND) -> UsageGroup:
    [group] = store.usage(window)
    return group


def generation(number: int, at: datetime = NOON, /, **fields: Any) -> UsageEvent:
    """Return a generation whose id names the second of its time."""
    request_id = generation_id(number, int(at.timestamp()))
    return settled(**({"request_id": request_id, "occurred_at": at} | fields))


def host(**fields: Any) -> HostRow:
    defaults: dict[str, Any] = {
        "host_id": "host-1",
        "occurred_at": NOON,
        "host_kind": "pipeline",
        "version": "1.0.0",
        "started_at": NOON - HOUR,
    }
    return HostRow(**(defaults | fields))


def user(**fields: Any) -> UserRow:
    return UserRow(**({"user_id": ALICE, "occurred_at": NOON, "name": "Alice"} | fields))


class Leaving(EmbeddedStore):
    """A store under another name that can be sent away."""

    name = "influxdb"
    is_away = False
    asked = 0

    def _read(self, *arguments: Any) -> Iterator[Any]:
        self.asked += 1
        if self.is_away:
            raise Unavailable("influxdb is away")
        return super()._read(*arguments)
