"""The tables of a spool file, and whether a file is ours to use."""

import sqlite3
from pathlib import Path

from shared.core.sqlite_schema import sqlite_pragma, upgrade_schema
from shared.errors import SpoolError, SpoolTooNew

# In the header of the file, so that another program's database is never taken for a spool.
SPOOL_APPLICATION_ID = 0x4F575553

# One entry per version of the schema, the newest last; user_version of a file says how many it has.
# Only ever add: an older program must be able to go on with a newer file. A change that it could
# not live with also sets meta.min_reader to the version that is needed from then on.
# Times are milliseconds since 1970.
SPOOL_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # AUTOINCREMENT: the number of a delivered row is never given to another one, so that a late
        # acknowledgement cannot hit the wrong row.
        """CREATE TABLE rows (
            row_id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            event_id BLOB NOT NULL,
            request_id TEXT NOT NULL,
            point_time_ns INTEGER NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            message TEXT NOT NULL DEFAULT '',
            queued_at INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        # Few rows are ever put aside: the many that come and go cost this index nothing.
        "CREATE INDEX rows_put_aside ON rows (state) WHERE state <> 'queued'",
        "CREATE INDEX rows_by_request ON rows (request_id)",
        # Every row that this spool took, queued or delivered, by its time in the store; those of
        # hosts are not worth it, each is new. A time is close to that of the event before, a digest
        # lies anywhere: so what a delivery acknowledges is a few neighbouring pages, where moving
        # digests between two tables touched an index page for almost each of them (28 us of an
        # event, against 4). `is_delivered` and `changed_at` (queued or delivered then) keep their
        # size when they change, and so their page.
        """CREATE TABLE digests (
            point_time_ns INTEGER PRIMARY KEY,
            event_id BLOB NOT NULL,
            is_delivered INTEGER NOT NULL,
            changed_at INTEGER NOT NULL
        )""",
        "CREATE UNIQUE INDEX digests_by_event ON digests (event_id)",
        # The order in which they are forgotten.
        "CREATE INDEX digests_delivered ON digests (changed_at) WHERE is_delivered",
        """CREATE TABLE open_generations (
            request_id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            last_seen INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        """CREATE TABLE hosts (
            host_id TEXT PRIMARY KEY,
            occurred_at INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        """CREATE TABLE lease (
            place INTEGER PRIMARY KEY CHECK (place = 1),
            owner TEXT NOT NULL,
            expires_at INTEGER NOT NULL
        )""",
        "CREATE TABLE counters (reason TEXT PRIMARY KEY, total INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('min_reader', 1)",
    ),
)


def check_spool(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is ours to use, without changing it.

    A newer one is, if its `min_reader` allows it. Raises SpoolTooNew for a file that needs a
    later version, SpoolError for the database of another program.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and sqlite_pragma(connection, "application_id") != SPOOL_APPLICATION_ID:
        raise SpoolError(f"{path} is a database of another program; choose another spool folder")
    version = sqlite_pragma(connection, "user_version")
    if version <= len(SPOOL_MIGRATIONS):
        return
    needed = connection.execute("SELECT value FROM meta WHERE name = 'min_reader'").fetchone()
    if needed is None or needed[0] > len(SPOOL_MIGRATIONS):
        raise SpoolTooNew(
            f"{path} was written by a later version (schema {version}, this one knows "
            f"{len(SPOOL_MIGRATIONS)}): update this installation or choose another spool folder"
        )


def upgrade_spool(connection: sqlite3.Connection) -> None:
    """Bring a checked file up to date. The caller holds the lock."""
    upgrade_schema(connection, SPOOL_MIGRATIONS, SPOOL_APPLICATION_ID)
