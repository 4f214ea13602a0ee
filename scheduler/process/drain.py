"""Drain: every spool of the shared folder into its event store, one delivery each."""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Event

from shared.core.clock import Clock
from shared.delivery.delivery import Delivery, DeliveryPolicy, DeliveryResult
from shared.delivery.port import EventSink
from shared.errors import SpoolError
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool

log = logging.getLogger("owui_usage")


@dataclass(frozen=True)
class DrainSettings:
    """`sinks` are the stores of single spools by file name; all others share one.

    A generation in flight that was not seen for `quiet_seconds` counts as stopped.
    """

    folder: Path
    spool: SpoolSettings
    quiet_seconds: float
    sinks: Mapping[str, EventSink] = field(default_factory=dict)


class Drain:
    """Delivers the spools of a folder, also of hosts that are gone and of files that appear later.

    Generations that a host began and never ended are booked as pending.
    """

    def __init__(
        self,
        settings: DrainSettings,
        sink: EventSink,
        clock: Clock,
        policy: DeliveryPolicy,
        stop: Event,
    ) -> None:
        self._settings = settings
        self._sink = sink
        self._clock = clock
        self._policy = policy
        self._stop = stop
        self._owner = secrets.token_hex(8)
        self._spools: dict[Path, tuple[SqliteSpool, Delivery]] = {}

    def run(self) -> Mapping[str, DeliveryResult]:
        """Deliver all spools once; a spool that fails is logged and does not hold up others."""
        results: dict[str, DeliveryResult] = {}
        for path in spool_files(self._settings.folder):
            try:
                results[path.name] = self._deliver(path)
            except SpoolError as error:
                log.warning("spool %s: %s", path.name, error)
        return results

    def spools(self) -> Mapping[str, tuple[SqliteSpool, Delivery]]:
        """Return the spools found so far with their deliveries, by file name."""
        return {path.name: opened for path, opened in sorted(self._spools.items())}

    def close(self) -> None:
        """Give up the leases and close the files."""
        for spool, delivery in self._spools.values():
            try:
                delivery.release()
            except SpoolError as error:
                log.warning("spool %s: %s", spool.path.name, error)
            spool.close()
        self._spools.clear()

    def _deliver(self, path: Path) -> DeliveryResult:
        spool, delivery = self._opened(path)
        result = delivery.run_once()
        if result.state != "standby":
            self._expire(spool, self._clock.now())
        return result

    def _expire(self, spool: SqliteSpool, now: datetime) -> None:
        expired = spool.expire_open(now, self._settings.quiet_seconds)
        if expired:
            log.info("spool %s: %d generations ended in silence", spool.path.name, expired)

    def _opened(self, path: Path) -> tuple[SqliteSpool, Delivery]:
        if path not in self._spools:
            spool = SqliteSpool(path, settings=self._settings.spool, clock=self._clock)
            sink = self._settings.sinks.get(path.name, self._sink)
            delivery = Delivery(spool, sink, self._owner, self._clock, self._policy, self._stop)
            self._spools[path] = spool, delivery
        return self._spools[path]


def spool_files(folder: Path) -> list[Path]:
    """Return the spool files of a folder, without those set aside as corrupt."""
    return sorted(folder.glob("*.sqlite3"))
