"""Coverage: which event store was seen to hold events of which quarter of an hour."""

from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from threading import Lock

from shared.core.time import from_ms
from shared.event_store.port import BUCKET, Window
from shared.event_store.sqlite.schema import open_store
from shared.event_store.sqlite.sql import milliseconds
from shared.event_store.sqlite.store import disk_errors_mapped


class StoreCoverage:
    """What is known of every store, also of one that is away or no longer configured.

    Kept in the file of the embedded store. Nothing is ever forgotten: that a bucket is empty now
    does not say that its events were not billed. A bad disk raises Unavailable or Misconfigured.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = Lock()
        with disk_errors_mapped(path):
            self._connection = open_store(path)

    def note(self, store: str, buckets: Iterable[datetime]) -> None:
        """Remember that a store holds events of these buckets."""
        rows = [(store, milliseconds(bucket)) for bucket in buckets]
        if not rows:
            return
        with self._turn, disk_errors_mapped(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT OR IGNORE INTO holdings VALUES (?, ?)", rows)
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def stores_covering(self, window: Window) -> set[str]:
        """Return the stores known to hold events of the window, or of a bucket it cuts."""
        bounds = (milliseconds(window.start - BUCKET) + 1, milliseconds(window.end))
        sql = "SELECT DISTINCT store FROM holdings WHERE bucket_ms >= ? AND bucket_ms < ?"
        with self._turn, disk_errors_mapped(self._path), closing(self._connection.cursor()) as rows:
            return {store for (store,) in rows.execute(sql, bounds)}

    def newest(self, store: str) -> datetime | None:
        """Return the newest bucket known of a store."""
        sql = "SELECT max(bucket_ms) FROM holdings WHERE store = ?"
        with self._turn, disk_errors_mapped(self._path), closing(self._connection.cursor()) as rows:
            [(newest,)] = rows.execute(sql, (store,))
        return None if newest is None else from_ms(newest)

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._connection.close()
