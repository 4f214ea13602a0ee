"""The store probe: tries the event store in a thread of its own, so that asking never hangs."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass

from shared.core.rows import HostRow
from shared.errors import DeliveryError
from shared.event_store.port import EventStore, StoreHealth

_PATIENCE_SECONDS = 5.0
_FRESH_SECONDS = 5.0


@dataclass(frozen=True)
class StoreReading:
    """How the store is, and the newest row of every host that it knows."""

    health: StoreHealth
    hosts: Sequence[HostRow] = ()


class StoreProbe:
    """Remembers the last try for a few seconds; a try that hangs is waited for, not repeated."""

    def __init__(self, store: EventStore, steady: Callable[[], float]) -> None:
        self._store = store
        self._steady = steady
        self._pool = ThreadPoolExecutor(1, "owui-usage-probe")
        self._trying: Future[StoreReading] | None = None
        self._last: tuple[float, StoreReading] | None = None

    def read(self) -> StoreReading:
        """Return how the store is, at most a few seconds ago, after at most a few seconds."""
        if self._last is not None and self._steady() - self._last[0] < _FRESH_SECONDS:
            return self._last[1]
        trying = self._trying or self._pool.submit(self._try)
        self._trying = trying
        try:
            reading = trying.result(_PATIENCE_SECONDS)
        except NoAnswer:
            sentence = f"no answer within {_PATIENCE_SECONDS:.0f} s"
            return StoreReading(StoreHealth(False, sentence))
        self._trying = None
        self._last = self._steady(), reading
        return reading

    def _try(self) -> StoreReading:
        health = self._store.health()
        if not health.ok:
            return StoreReading(health)
        try:
            return StoreReading(health, self._store.hosts())
        except DeliveryError as error:
            return StoreReading(StoreHealth(False, str(error)))
