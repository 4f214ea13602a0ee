"""The lock of the leading sidecar: flock beside SQLite, an advisory lock in PostgreSQL."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, NullPool, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from shared.core.file_lock import lock_file
from shared.summary_db.engine import driver_url

# Any number will do, as long as every sidecar of a PostgreSQL database asks for the same one.
_ADVISORY_LOCK = 7_366_120_402
# A machine that vanishes closes nothing: the server probes, and frees the lock in half a minute.
_KEEPALIVE = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)
_CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class LeaderLock(Protocol):
    """Held by one process at a time, given up at the latest when that process ends."""

    def hold(self) -> bool:
        """Take the lock unless another process has it, or check that it still holds; never raises.

        Between two calls another process may have taken a lock that was lost with its connection:
        what both do must be safe to do twice, and is (delivery has a lease, days are replaced).
        """

    def release(self) -> None:
        """Give the lock up."""


def leader_lock(database_url: str) -> LeaderLock:
    """Return the lock that belongs to a database of summaries."""
    url = driver_url(database_url)
    if url.get_backend_name() != "sqlite":
        return _AdvisoryLock(url.render_as_string(hide_password=False))
    path = Path(url.database or "memory")
    return _FileLock(path.with_name(path.name + ".active"))


class _FileLock:
    """An flock, which ends with its process however that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def hold(self) -> bool:
        if self._descriptor is not None:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o660)
        except OSError:
            return False
        try:
            if lock_file(descriptor, wait=False):
                self._descriptor = descriptor
        except OSError:  # a file system without locks
            pass
        finally:
            if self._descriptor is None:
                os.close(descriptor)
        return self._descriptor is not None

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _AdvisoryLock:
    """A session lock of PostgreSQL on a connection of its own, which ends with that connection."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(
            make_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=_CONNECT
        )
        self._connection: Connection | None = None

    def hold(self) -> bool:
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))
                return True
            return self._take()
        except SQLAlchemyError:
            self.release()
            return False

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()

    def _take(self) -> bool:
        connection = self._engine.connect()
        try:
            for setting in _KEEPALIVE:
                connection.execute(text(setting))
            query = text(f"SELECT pg_try_advisory_lock({_ADVISORY_LOCK})")
            if connection.scalar(query):
                self._connection = connection
                return True
        finally:
            if self._connection is None:
                connection.close()
        return False
