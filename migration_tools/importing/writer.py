"""Writing the events of an import into a store, batch after batch, with the retries of delivery."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from shared.core.event import UsageEvent
from shared.core.ids import point_time_ns
from shared.core.rows import UnmeteredRow, UserRow
from shared.delivery.retry import RetrySchedule
from shared.delivery.sender import BatchOutcome, Sender
from shared.errors import MigrationError
from shared.event_store.port import EventStore
from shared.spool.port import SpooledRow

# 1 MB of events.
BATCH_ROWS = 2000
# Events whose times collide are of the same second, and sources are read in the order of time.
_REMEMBERED = 50_000
_Row = TypeVar("_Row")


class PointTimes:
    """The nanosecond of each event's point in InfluxDB, no two the same.

    The same events in the same order get the same ones.
    """

    def __init__(self) -> None:
        self._taken: OrderedDict[int, str] = OrderedDict()

    def assign(self, event: UsageEvent) -> int:
        event_id, offset = event.event_id, 0
        while True:
            time_ns = point_time_ns(event_id, event.request_id, event.occurred_at, offset)
            if self._taken.setdefault(time_ns, event_id) == event_id:
                break
            offset += 1
        if len(self._taken) > _REMEMBERED:
            self._taken.popitem(last=False)
        return time_ns


def write_events(
    store: EventStore, events: Iterable[UsageEvent], done: int, note: Callable[[int], None]
) -> None:
    """Write events, all but the first `done`; after every batch call `note` with the count so far.

    Raises MigrationError when the store refuses an event, DeliveryError when it cannot be used.
    """
    point_times = PointTimes()
    count = 0
    for batch in _batches(events):
        rows = [_event_row(number, event, point_times) for number, event in enumerate(batch)]
        count += len(rows)
        if count > done:
            _send(store, rows)
            note(count)


def write_side_rows(store: EventStore, rows: Iterable[UnmeteredRow | UserRow]) -> None:
    for batch in _batches(rows):
        _send(store, [_side_row(number, row) for number, row in enumerate(batch)])


def _send(store: EventStore, rows: Sequence[SpooledRow]) -> None:
    outcome = BatchOutcome()
    Sender(store, RetrySchedule(), lambda: True, threading.Event()).send(rows, outcome)
    for reason in outcome.rejected.values():
        raise MigrationError(f"the store refused {len(outcome.rejected)} rows, first: {reason}")


def _batches(rows: Iterable[_Row]) -> Iterator[Sequence[_Row]]:
    rest = iter(rows)
    while batch := list(islice(rest, BATCH_ROWS)):
        yield batch


def _event_row(number: int, event: UsageEvent, point_times: PointTimes) -> SpooledRow:
    time_ns = point_times.assign(event)
    return SpooledRow(number, "usage", event.event_id, event.to_json(), time_ns, 0)


def _side_row(number: int, row: UnmeteredRow | UserRow) -> SpooledRow:
    time_ns = point_time_ns(row.event_id, "", row.occurred_at)
    return SpooledRow(number, row.kind, row.event_id, row.to_json(), time_ns, 0)
