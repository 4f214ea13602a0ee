"""Breakers: event stores that do not answer are not asked again at once."""

from collections.abc import Callable
from datetime import timedelta
from threading import Lock
from typing import TypeVar

from shared.core.clock import Clock
from shared.delivery.breaker import Breaker
from shared.errors import Unavailable
from shared.event_store.port import EventStore

# Long enough for all other readings of a run to get by, short enough that nobody waits for it.
_BREAKER = Breaker(failures_to_open=3, successes_to_close=1, open_for=timedelta(seconds=5))
_Answer = TypeVar("_Answer")


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
