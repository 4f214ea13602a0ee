"""Reading the books as the sidecar does: every spool drained into the embedded store."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from demo.processes import wait_for
from shared.core.clock import SystemClock
from shared.core.rows import UnmeteredRow
from shared.delivery.delivery import Delivery
from shared.event_store.port import Window
from shared.event_store.sqlite.store import EmbeddedStore
from shared.projection.resolution import Bill, resolve, still_unmetered
from shared.spool.port import SpoolStatus
from shared.spool.sqlite_spool import SqliteSpool


class Books:
    """The event store of one installation, beside the spools of its hosts."""

    def __init__(self, spool_folder: Path, store_path: Path) -> None:
        self._spool_folder = spool_folder
        self._store = EmbeddedStore(store_path)
        self.bills: list[Bill] = []
        self.unmetered: list[UnmeteredRow] = []

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def collect(self) -> None:
        """Drain every spool and resolve everything that was ever delivered."""
        for path in sorted(self._spool_folder.glob("*.sqlite3")):
            with _opened(path) as spool:
                # A host borrows the lease for a moment when it looks after its open notes.
                wait_for(lambda: self._drain(spool), f"the lease of {path.name}", 10)
        now = datetime.now(UTC)
        window = Window(now - timedelta(days=1), now + timedelta(days=1))
        events = list(self._store.events(window))
        self.bills = resolve(events).bills
        self.unmetered = still_unmetered(self._store.unmetered(window), events)

    def _drain(self, spool: SqliteSpool) -> bool:
        delivery = Delivery(spool, self._store, "books-of-a-test", SystemClock())
        result = delivery.run_once()
        delivery.release()
        assert result.state in ("idle", "standby"), result.message
        assert result.rejected == 0, "a spool holds rows that the store refuses"
        return result.state == "idle"

    def status(self) -> list[SpoolStatus]:
        """Return how every spool stands."""
        found = []
        for path in sorted(self._spool_folder.glob("*.sqlite3")):
            with _opened(path) as spool:
                found.append(spool.status())
        return found

    def age_notes(self, seconds: int) -> None:
        """Make every open note older, as if its hosts had been silent for so long."""
        for path in sorted(self._spool_folder.glob("*.sqlite3")):
            with sqlite3.connect(path) as connection:
                connection.execute(
                    "UPDATE open_generations SET last_seen = last_seen - ?", (seconds * 1000,)
                )
            connection.close()

    def bills_of(self, user_id: str) -> list[Bill]:
        """Return the bills of one person."""
        return [bill for bill in self.bills if bill.event.external_user == user_id]

    def unmetered_of(self, user_id: str) -> list[UnmeteredRow]:
        """Return the unmetered rows of one person that no event explains."""
        return [row for row in self.unmetered if row.external_user == user_id]


@contextmanager
def _opened(path: Path) -> Iterator[SqliteSpool]:
    spool = SqliteSpool(path)
    try:
        yield spool
    finally:
        spool.close()
