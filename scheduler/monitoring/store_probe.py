"""The store probe: checks the event store in a thread of its own, so that health never hangs."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass

from shared.core.rows import HostRow
from shared.errors import DeliveryError
from shared.event_store.port import EventStore, StoreHealth

_TIMEOUT_SECONDS = 5.0
_FRESH_SECONDS = 5.0


@dataclass(frozen=True)
class StoreReading:
    """The health of the store, and the newest heartbeat of every host in it."""

    health: StoreHealth
    hosts: Sequence[HostRow] = ()


class StoreProbe:
    """Caches the last check for a few seconds; one that hangs is waited for, not repeated."""

    def __init__(self, store: EventStore, steady: Callable[[], float]) -> None:
        self._store = store
        self._steady = steady
        self._pool = ThreadPoolExecutor(1, "owui-usage-probe")
        self._pending: Future[StoreReading] | None = None
        self._last: tuple[float, StoreReading] | None = None

    def read(self) -> StoreReading:
        """Return a reading that is at most a few seconds old, within a few seconds."""
        if self._last is not None and self._steady() - self._last[0] < _FRESH_SECONDS:
            return self._last[1]
        pending = self._pending or self._pool.submit(self._check)
        self._pending = pending
        try:
            reading = pending.result(_TIMEOUT_SECONDS)
        except NoAnswer:
            sentence = f"no answer within {_TIMEOUT_SECONDS:.0f} s"
            return StoreReading(StoreHealth(False, sentence))
        self._pending = None
        self._last = self._steady(), reading
        return reading

    def _check(self) -> StoreReading:
        health = self._store.health()
        if not health.ok:
            return StoreReading(health)
        try:
            return StoreReading(health, self._store.hosts())
        except DeliveryError as error:
            return StoreReading(StoreHealth(False, str(error)))
