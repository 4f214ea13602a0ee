"""The event stores together: rows go to one of them, days are read from all that hold them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import TypeVar

from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.event import UsageEvent
from shared.core.rows import HostRow, UnmeteredRow, UserRow
from shared.delivery.breaker import Breaker
from shared.delivery.port import WriteResult
from shared.errors import DeliveryError, Misconfigured, Unavailable
from shared.event_store.combined.coverage import StoreCoverage
from shared.event_store.combined.merging import between, both_hold, clipped, joined_spans, merged
from shared.event_store.overlaps import EventIdentity, find_overlaps
from shared.event_store.port import EventStore, Fingerprint, StoreHealth, UsageGroup, Window
from shared.event_store.sums import add_up, fingerprint_events
from shared.spool.port import SpooledRow

# Long enough for all other readings of a run to get by, short enough that nobody waits for it.
_BREAKER = Breaker(failures_to_open=3, successes_to_close=1, open_for=timedelta(seconds=5))
_Answer = TypeVar("_Answer")
_SideRow = TypeVar("_SideRow", HostRow, UserRow)


class CombinedStore:
    """An EventStore over several: the first takes what is written here.

    The others held the events before, or take other rows: `written_to` names all that take any.

    So a switch of the setting, back and forth, loses and doubles nothing: an event that two stores
    hold is one event, and a bill observed in two of them is not unique. A store that is away fails
    what it is known to hold, and one that is written to also everything newer than that; no other
    reading. Their names tell them apart, also after a restart.
    """

    def __init__(
        self,
        stores: Sequence[EventStore],
        coverage: StoreCoverage,
        clock: Clock = SYSTEM_CLOCK,
        written_to: Collection[str] = (),
    ) -> None:
        self._first = stores[0]
        self._stores = stores
        self._written_to = {stores[0].name, *written_to}
        self._coverage = coverage
        self._breakers = StoreBreakers(clock)
        self.name = self._first.name
        self.shows_batches_whole = all(store.shows_batches_whole for store in stores)

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        """Make rows ready for the first store."""
        return self._first.prepare(rows)

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write rows to the first store."""
        return self._first.write(rows)

    def usage(self, window: Window) -> list[UsageGroup]:
        """Add up all events of the window; what several stores hold is read, and counts once."""
        held = self._held(window)
        if len(held) < 2:
            return self._only(held).usage(window)
        both = both_hold(held.values())
        shared = [clipped(span, window) for span in joined_spans(both)]
        groups = [
            group
            for store in self._named(held)
            for span in between(shared, window)
            for group in store.usage(span)
        ]
        for span in shared:
            groups += add_up(merged(self._named(held), partial(_events, window=span)))
        return groups

    def repeated(self, window: Window) -> Collection[UsageEvent]:
        """Return the events of every bill of which the stores together hold two observations."""
        covering = self._stores_covering(window)
        if len(covering) == 1:
            return covering[0].repeated(window)
        found = find_overlaps(self.identities(window, answers=False))
        return list(self.events_about(window, found.request_ids))

    def grains(self, window: Window) -> set[str]:
        """Return which of `generation` and `turn` the events of the window are."""
        return {grain for store in self._stores_covering(window) for grain in store.grains(window)}

    def identities(self, window: Window, *, answers: bool) -> Iterator[EventIdentity]:
        """Return the identity of every event of the window; one that two stores hold comes twice.

        So it is read, and found to be one.
        """
        for store in self._stores_covering(window):
            yield from store.identities(window, answers=answers)

    def events(self, window: Window) -> Iterator[UsageEvent]:
        """Return all events of the window; one that several stores hold comes once."""
        return merged(self._stores_covering(window), partial(_events, window=window))

    def events_about(
        self,
        window: Window,
        request_ids: Collection[str] = (),
        message_ids: Collection[str] = (),
    ) -> Iterator[UsageEvent]:
        """Return those events of the window that have one of these ids, each once."""
        return merged(
            self._stores_covering(window),
            lambda store: store.events_about(window, request_ids, message_ids),
        )

    def fingerprints(self, window: Window) -> dict[datetime, Fingerprint]:
        """Return what each 15-minute bucket of the window holds, all stores together.

        Where several stores hold a bucket its events are read: one that all of them hold is one.
        """
        answers = self._fingerprints(self._stores, window)
        total: dict[datetime, Fingerprint] = {}
        for found in answers.values():
            total |= found
        for span in joined_spans(both_hold(answers.values())):
            part = clipped(span, window)
            total |= fingerprint_events(merged(self._named(answers), partial(_events, window=part)))
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

    def _stores_covering(self, window: Window) -> list[EventStore]:
        """Return the stores to read a window from."""
        return self._named(self._held(window)) or [self._first]

    def _held(self, window: Window) -> dict[str, dict[datetime, Fingerprint]]:
        """Return what the stores that hold any of a window hold of it; none is: the first alone.

        It is not asked while no other holds anything: so a reading costs no more than without them.
        """
        others = self._fingerprints(self._stores[1:], window)
        found = others if not any(others.values()) else self._fingerprints(self._stores, window)
        return {name: buckets for name, buckets in found.items() if buckets}

    def _named(self, names: Collection[str]) -> list[EventStore]:
        return [store for store in self._stores if store.name in names]

    def _only(self, names: Collection[str]) -> EventStore:
        return next(iter(self._named(names)), self._first)

    def _fingerprints(
        self, stores: Sequence[EventStore], window: Window
    ) -> dict[str, dict[datetime, Fingerprint]]:
        """Return what the stores hold of the window, by name, and remember it."""
        answers = self._ask(stores, window, lambda store: store.fingerprints(window))
        for name, found in answers.items():
            self._coverage.note(name, found)
        return answers

    def _ask(
        self,
        stores: Sequence[EventStore],
        window: Window,
        read: Callable[[EventStore], _Answer],
    ) -> dict[str, _Answer]:
        """Ask stores about a window, by name; raise when one that may hold part of it is away."""
        known = self._coverage.stores_covering(window)
        if unconfigured := known - {store.name for store in self._stores}:
            names = " and ".join(sorted(unconfigured))
            raise Misconfigured(f"{names} holds events of this time and is not configured any more")
        answers = {}
        for store in stores:
            try:
                answers[store.name] = self._breakers.ask(store, read)
            except DeliveryError:
                if store.name in known or self._may_be_new_to(store, window):
                    raise
        return answers

    def _may_be_new_to(self, store: EventStore, window: Window) -> bool:
        """Tell whether a store that is written to may hold what was not looked at yet."""
        newest = self._coverage.newest(store.name)
        return store.name in self._written_to and (newest is None or window.end > newest)

    def _reachable(self, read: Callable[[EventStore], list[_SideRow]]) -> list[_SideRow]:
        rows: list[_SideRow] = []
        failures: list[DeliveryError] = []
        for store in self._stores:
            try:
                rows += self._breakers.ask(store, read)
            except DeliveryError as error:
                failures.append(error)
        if len(failures) == len(self._stores):
            raise failures[0]
        return rows


def _events(store: EventStore, window: Window) -> Iterator[UsageEvent]:
    return store.events(window)


def _newest(rows: Sequence[_SideRow], key: Callable[[_SideRow], str]) -> list[_SideRow]:
    newest: dict[str, _SideRow] = {}
    for row in sorted(rows, key=lambda row: row.occurred_at):
        newest[key(row)] = row
    return [newest[name] for name in sorted(newest)]


class StoreBreakers:
    """Asks event stores, by name; each question to one that hangs would cost a whole timeout.

    Three questions in a row must fail first: one that is too large for a store says little of it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = Lock()
        self._breakers: dict[str, Breaker] = {}
        self._words: dict[str, str] = {}

    def ask(self, store: EventStore, read: Callable[[EventStore], _Answer]) -> _Answer:
        """Ask a store. Raises Unavailable, in the words of its last failure, while it is open."""
        with self._turn:
            if not self._breaker(store).allows(self._clock.now()):
                raise Unavailable(self._words[store.name])
        try:
            answer = read(store)
        except Unavailable as error:
            with self._turn:
                breaker = self._breaker(store).after_failure(self._clock.now())
                self._breakers[store.name] = breaker
                self._words[store.name] = str(error)
            raise
        with self._turn:
            self._breakers[store.name] = self._breaker(store).after_success()
        return answer

    def _breaker(self, store: EventStore) -> Breaker:
        return self._breakers.get(store.name, _BREAKER)
