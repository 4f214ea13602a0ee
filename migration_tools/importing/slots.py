"""Slots: the nanosecond at which each event of an import stands, no two on the same."""

from collections import OrderedDict

from shared.core.event import UsageEvent
from shared.core.ids import store_ns

# Events that could want the same slot are of the same second; sources come in the order of time.
_REMEMBERED = 50_000


class Slots:
    """Gives every event a slot of its own; the same events in the same order get the same ones."""

    def __init__(self) -> None:
        self._taken: OrderedDict[int, str] = OrderedDict()

    def place(self, event: UsageEvent, event_id: str) -> int:
        """Return the slot of an event, moved on by those that other events have taken."""
        moved = 0
        while True:
            slot = store_ns(event_id, event.request_id, event.occurred_at, moved)
            if self._taken.setdefault(slot, event_id) == event_id:
                break
            moved += 1
        if len(self._taken) > _REMEMBERED:
            self._taken.popitem(last=False)
        return slot
