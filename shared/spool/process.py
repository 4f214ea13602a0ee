"""One process at a spool: its writer, its name and the open generations that it looks after."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from shared.core.clock import Clock
from shared.core.time import to_ms
from shared.spool.acknowledge import (
    expire_notes,
    holds_lease,
    prune_spool,
    refresh_notes,
    take_lease,
)
from shared.spool.counters import SpoolCounters
from shared.spool.enqueue import SpoolTransaction
from shared.spool.file import SpoolFile, Synchronous
from shared.spool.writer import SpoolWriter

# More generations than one host can have open; what comes beyond is not refreshed.
_SEEN_MAX = 50_000
# Between two small steps of tidying up: hooks come first.
_PRUNE_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class SpoolSettings:
    """What an admin can set about a spool."""

    max_bytes: int = 1024 * 1024**2
    max_cost_usd: Decimal = Decimal(10_000)
    synchronous: Synchronous = "FULL"
    digest_days: int = 35
    refresh_seconds: float = 30.0
    close_seconds: float = 5.0


class SpoolProcess:
    """What a spool keeps per process; a forked child begins with a new one."""

    def __init__(self, path: Path, settings: SpoolSettings, clock: Clock) -> None:
        self.owner = secrets.token_hex(8)
        self.counters = SpoolCounters()
        self.file = SpoolFile(path, settings.synchronous, clock, self.counters.add)
        self.writer = SpoolWriter(self.file, self.counters, clock, self._keep_up)
        self._settings = settings
        self._clock = clock
        self._seen: dict[str, int] = {}
        self._lease_owners: set[str] = set()

    def see(self, request_ids: Sequence[str]) -> None:
        """Note in memory that these generations are alive; the file learns of it in a while."""
        now_ms = to_ms(self._clock.now())
        for request_id in request_ids:
            if len(self._seen) < _SEEN_MAX or request_id in self._seen:
                self._seen[request_id] = now_ms

    def lease(self, tx: SpoolTransaction, owner: str, seconds: float) -> bool:
        """Try to deliver this spool in the name of an owner."""
        if not take_lease(tx, owner, seconds):
            return False
        self._lease_owners.add(owner)
        return True

    def expire(self, tx: SpoolTransaction, now: datetime, quiet_seconds: float) -> int:
        """Book this process's quiet generations, and those of silent processes if it delivers."""
        self._refresh(tx)
        return expire_notes(
            tx,
            self.owner,
            now,
            quiet_seconds,
            self._settings.max_cost_usd,
            with_silent_owners=holds_lease(tx, self._lease_owners),
        )

    def _keep_up(self, tx: SpoolTransaction) -> float:
        self._refresh(tx)
        has_more = prune_spool(tx, self._settings.digest_days)
        return _PRUNE_PAUSE_SECONDS if has_more else self._settings.refresh_seconds

    def _refresh(self, tx: SpoolTransaction) -> None:
        seen = dict(self._seen)
        still_open = refresh_notes(tx, self.owner, seen)
        for request_id in seen.keys() - still_open:
            self._seen.pop(request_id, None)
