"""The event stores together: rows go to one of them, days are read from all that hold them."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from shared.adapters.holdings import Holdings
from shared.adapters.usage_sums import fingerprint_events
from shared.domain.event import UsageEvent
from shared.domain.rows import HostRow, UnmeteredRow, UserRow
from shared.errors import DeliveryError, Misconfigured
from shared.ports import (
    BUCKET,
    EventStore,
    Fingerprint,
    SpooledRow,
    StoreHealth,
    UsageGroup,
    Window,
    WriteResult,
)

_EDGE = timedelta(hours=1)
_SPAN = timedelta(days=1)
_Answer = TypeVar("_Answer")
_SideRow = TypeVar("_SideRow", HostRow, UserRow)


class CombinedStore:
    """An EventStore over several: the first is written to, the others held the events before.

    So a switch of the setting, back and forth, loses and doubles nothing: an event that two stores
    hold is one event, and a bill observed in two of them is not unique. A store that is away fails
    what it is known to hold, and the first also everything newer than that; no other reading. Their
    names tell them apart, also after a restart.
    """

    def __init__(self, stores: Sequence[EventStore], holdings: Holdings) -> None:
        self._first = stores[0]
        self._stores = stores
        self._holdings = holdings
        self.name = self._first.name

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write rows to the first store."""
        return self._first.write(rows)

    def usage(self, window: Window) -> list[UsageGroup]:
        """Add up all events of the window, store by store: right only if `is_unique`."""
        return [group for store in self._holders(window) for group in store.usage(window)]

    def is_unique(self, window: Window) -> bool:
        """Tell whether one store alone holds the window and its edges, every bill of it once."""
        holders = self._holders(Window(window.start - _EDGE, window.end + _EDGE))
        return len(holders) == 1 and holders[0].is_unique(window)

    def events(self, window: Window) -> Iterator[UsageEvent]:
        """Return all events of the window; one that several stores hold comes once."""
        holders = self._holders(window)
        yield from holders[0].events(window) if len(holders) == 1 else _merged(holders, window)

    def fingerprints(self, window: Window) -> dict[datetime, Fingerprint]:
        """Return what each 15-minute bucket of the window holds, all stores together.

        Where several stores hold a bucket its events are read: one that all of them hold is one.
        """
        total: dict[datetime, Fingerprint] = {}
        shared: set[datetime] = set()
        for found in self._fingerprints(self._stores, window).values():
            shared |= total.keys() & found.keys()
            total |= found
        for start, end in _spans(shared):
            part = Window(max(start, window.start), min(end, window.end))
            total |= fingerprint_events(_merged(self._stores, part))
        return total

    def unmetered(self, window: Window) -> list[UnmeteredRow]:
        """Return the unmetered rows of the window, each once."""
        answers = self._ask(self._stores, window, lambda store: store.unmetered(window))
        return list({row.event_id: row for rows in answers.values() for row in rows}.values())

    def hosts(self) -> list[HostRow]:
        """Return the newest row of every host, from the stores that can be reached."""
        return _newest(self._reachable(lambda store: store.hosts()), lambda row: row.host_id)

    def users(self) -> list[UserRow]:
        """Return the newest row of every user, from the stores that can be reached."""
        return _newest(self._reachable(lambda store: store.users()), lambda row: row.user_id)

    def delete_import(self, import_id: str) -> int:
        """Delete the events of one import from all stores; raises when one cannot be reached."""
        return sum(store.delete_import(import_id) for store in self._stores)

    def health(self) -> StoreHealth:
        """Try every store; never raises."""
        found = [(store.name, store.health()) for store in self._stores]
        detail = "; ".join(f"{name}: {health.detail}" for name, health in found)
        return StoreHealth(all(health.ok for _, health in found), detail)

    def _holders(self, window: Window) -> list[EventStore]:
        """Return the stores to read a window from: the first alone, while no other holds any of it.

        So that a reading costs no more than it would without the others.
        """
        others = self._fingerprints(self._stores[1:], window)
        found = others if not any(others.values()) else self._fingerprints(self._stores, window)
        return [store for store in self._stores if found.get(store.name)] or [self._first]

    def _fingerprints(
        self, stores: Sequence[EventStore], window: Window
    ) -> dict[str, dict[datetime, Fingerprint]]:
        """Return what the stores hold of the window, by name, and remember it."""
        answers = self._ask(stores, window, lambda store: store.fingerprints(window))
        for name, found in answers.items():
            self._holdings.note(name, found)
        return answers

    def _ask(
        self,
        stores: Sequence[EventStore],
        window: Window,
        read: Callable[[EventStore], _Answer],
    ) -> dict[str, _Answer]:
        """Ask stores about a window, by name; raise when one that may hold part of it is away."""
        known = self._holdings.holders(window)
        if strangers := known - {store.name for store in self._stores}:
            names = " and ".join(sorted(strangers))
            raise Misconfigured(f"{names} holds events of this time and is not configured any more")
        answers = {}
        for store in stores:
            try:
                answers[store.name] = read(store)
            except DeliveryError:
                if store.name in known or self._may_be_new_to(store, window):
                    raise
        return answers

    def _may_be_new_to(self, store: EventStore, window: Window) -> bool:
        """Tell whether the store that is written to may hold what was not looked at yet."""
        newest = self._holdings.newest(store.name)
        return store is self._first and (newest is None or window.end > newest)

    def _reachable(self, read: Callable[[EventStore], list[_SideRow]]) -> list[_SideRow]:
        rows: list[_SideRow] = []
        failures: list[DeliveryError] = []
        for store in self._stores:
            try:
                rows += read(store)
            except DeliveryError as error:
                failures.append(error)
        if len(failures) == len(self._stores):
            raise failures[0]
        return rows


def _merged(stores: Sequence[EventStore], window: Window) -> Iterator[UsageEvent]:
    seen: set[str] = set()
    for store in stores:
        for event in store.events(window):
            if event.event_id not in seen:
                seen.add(event.event_id)
                yield event


def _spans(buckets: set[datetime]) -> list[tuple[datetime, datetime]]:
    """Join buckets that touch to spans of at most a day, so that few events are held at once."""
    spans: list[tuple[datetime, datetime]] = []
    for bucket in sorted(buckets):
        if spans and spans[-1][1] == bucket and bucket - spans[-1][0] < _SPAN:
            spans[-1] = (spans[-1][0], bucket + BUCKET)
        else:
            spans.append((bucket, bucket + BUCKET))
    return spans


def _newest(rows: Sequence[_SideRow], key: Callable[[_SideRow], str]) -> list[_SideRow]:
    newest: dict[str, _SideRow] = {}
    for row in sorted(rows, key=lambda row: row.occurred_at):
        newest[key(row)] = row
    return [newest[name] for name in sorted(newest)]
