"""The spool's file on disk: opening, transactions under the lock, and a corrupt file set aside."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from shared.core.clock import Clock
from shared.core.sqlite_schema import sqlite_pragma
from shared.core.time import to_ms
from shared.spool.damage import SPOOL_FILE_ERRORS, is_corrupt, rescue_rows, spool_text
from shared.spool.lock import create_spool_file, spool_lock
from shared.spool.schema import check_spool, upgrade_spool

logger = logging.getLogger("owui_usage")

Synchronous = Literal["FULL", "NORMAL"]
# SQLite's own timeout for programs that do not know our lock (an admin's shell, a backup).
_SQLITE_BUSY_SECONDS = 30.0
# How much the log gathers before it is moved into the file: at SQLite's 1000 pages a delivery of
# a large queue, which touches pages all over the indexes, would move it with every commit.
_SPOOL_LOG_PAGES = 4000
# The log is laid out for so much from the start.
_SPOOL_LOG_BYTES = 4 * 1024**2
# For the writer alone: it comes back to the indexes, readers pass over the rows once.
_SPOOL_CACHE_KIB = 16 * 1024


class SpoolFile:
    """One spool file, used by one thread for writing and by any thread for reading.

    Nothing touches the disk before the first use. Raises sqlite3.Error, OSError and, for a damaged
    schema, UnicodeDecodeError as they come, SpoolError and SpoolTooNew for a file that is not ours
    to use.
    """

    def __init__(
        self, path: Path, synchronous: Synchronous, clock: Clock, count: Callable[[str, int], None]
    ) -> None:
        self.path = path
        self._synchronous = synchronous
        self._clock = clock
        self._count = count
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._level: Synchronous | None = None

    @contextmanager
    def writing(self, *, is_synced: bool = True) -> Iterator[sqlite3.Connection]:
        """Run one transaction under the lock; it is on disk when the block has ended.

        One that is not synced outlives the process at once, and a power loss with the next commit
        that is, or with a checkpoint.
        """
        synchronous: Synchronous = self._synchronous if is_synced else "NORMAL"
        with spool_lock(self.path):
            connection = self._current_connection()
            try:
                if synchronous != self._level:  # it costs more than any other statement of a hook
                    connection.execute(f"PRAGMA synchronous = {synchronous}")
                    self._level = synchronous
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    connection.rollback()
                self._set_aside_if_corrupt(error, self._identity)
                # A connection that failed once may fail for ever (a disk that went and came back).
                self._drop_connection()
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read one consistent state of the file, while others may write.

        Each reader opens the file anew: a connection that outlives its thread or is copied by a
        fork would do harm when it is closed.
        """
        with spool_lock(self.path):
            connection = self._open_or_replace()
            identity = self._file_identity()
        try:
            connection.execute("BEGIN")
            yield connection
        except SPOOL_FILE_ERRORS as error:
            with spool_lock(self.path):
                self._set_aside_if_corrupt(error, identity)
            raise
        finally:
            with spool_lock(self.path):
                connection.close()

    def checkpoint(self) -> None:
        """Move what the log holds into the file, as far as no reader needs it, and sync both."""
        if self._connection is not None:
            with spool_lock(self.path):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close the writing connection; the last one to leave a file empties its log."""
        if self._connection is not None:
            with spool_lock(self.path):
                self._drop_connection()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        self._level = None
        if connection is not None:
            connection.close()

    def _current_connection(self) -> sqlite3.Connection:
        """Return the connection to the file that stands at our path now.

        Another process may have set a corrupt file aside since our last transaction: what we wrote
        to the old one would be lost. SQLite leaves the log alone when it closes a moved file.
        """
        identity = self._file_identity()
        if identity != self._identity:
            self._drop_connection()
        if self._connection is None:
            self._connection = self._open_or_replace()
            self._identity = self._file_identity()
            self._connection.execute(f"PRAGMA cache_size = -{_SPOOL_CACHE_KIB}")
            # Without that room every commit is slower, and nothing worse.
            with suppress(OSError, sqlite3.Error):
                _lay_out_log(self._connection, Path(f"{self.path}-wal"))
        return self._connection

    def _file_identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            return self._open()
        except SPOOL_FILE_ERRORS as error:
            if not self._set_aside_if_corrupt(error, self._file_identity()):
                raise
            return self._open()

    def _open(self) -> sqlite3.Connection:
        create_spool_file(self.path)
        connection = sqlite3.connect(self.path, timeout=_SQLITE_BUSY_SECONDS, isolation_level=None)
        connection.text_factory = spool_text
        try:
            check_spool(connection, self.path)
            # Must come before the first page is written; without effect on an existing file.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_SPOOL_LOG_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {_SPOOL_LOG_PAGES * 4096}")
            upgrade_spool(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside_if_corrupt(self, error: BaseException, identity: tuple[int, int] | None) -> bool:
        """Rename a corrupt file and its log, unless another process already did. Holds the lock."""
        if not is_corrupt(error) or identity is None or self._file_identity() != identity:
            return False
        now = self._clock.now()
        aside = f"{self.path.name}.corrupt-{now:%Y%m%dT%H%M%S%fZ}"
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                part = self.path.with_name(self.path.name + suffix)
                part.rename(self.path.with_name(aside + suffix))
        logger.error("spool %s is corrupt: kept as %s, a new one begins", self.path, aside)
        self._count("corrupt_file", 1)
        self._rescue(self.path.with_name(aside), to_ms(now))
        return True

    def _rescue(self, aside: Path, now_ms: int) -> None:
        """Begin the new file with the readable rows of the old one; at worst they stay there."""
        try:
            with closing(self._open()) as connection:
                rescued = rescue_rows(aside, connection, now_ms)
        except (*SPOOL_FILE_ERRORS, OSError) as error:
            logger.error("no row was rescued from %s: %s", aside, error)
            return
        self._count("rescued", rescued)
        logger.warning("%d rows were rescued from %s", rescued, aside)


def _lay_out_log(connection: sqlite3.Connection, log: Path) -> None:
    """Prolong a log with zeros, which SQLite takes for the rest of an older log.

    It is written over from then on: a sync that need not record how much a file has grown takes
    the disk half the time. In a transaction, so that nobody else appends to the log meanwhile. A
    disk without that much room keeps what it has: others live there, too.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        with log.open("ab", buffering=0) as file:
            size = file.tell()
            zeros = bytes(max(0, _SPOOL_LOG_BYTES - size))
            if file.write(zeros) < len(zeros):
                file.truncate(size)
    finally:
        connection.rollback()


def spool_bytes_used(connection: sqlite3.Connection) -> int:
    """Return how many bytes of the file hold something; pages freed by delivery do not count."""
    pages = sqlite_pragma(connection, "page_count") - sqlite_pragma(connection, "freelist_count")
    return pages * sqlite_pragma(connection, "page_size")
