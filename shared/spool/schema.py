"""The tables of a spool file and how a file of any age is brought up to date."""

import sqlite3
from pathlib import Path

from shared.errors import SpoolError, SpoolTooNew

# In the header of the file, so that another program's database is never taken for a spool.
SPOOL_APPLICATION_ID = 0x4F575553

# One entry per version of the schema, the newest last; user_version of a file says how many it has.
# Only ever add: an older program must be able to go on with a newer file. A change that it could
# not live with also sets meta.min_reader to the version that is needed from then on.
SPOOL_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # AUTOINCREMENT: the number of a delivered row is never given to another one, so that a late
        # mark of a delivery cannot hit the wrong row. Times are milliseconds since 1970.
        """CREATE TABLE rows (
            row_id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            event_id BLOB NOT NULL UNIQUE,
            request_id TEXT NOT NULL,
            store_ns INTEGER NOT NULL UNIQUE,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            words TEXT NOT NULL DEFAULT '',
            queued_at INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        # Few rows are ever put aside: the many that come and go cost this index nothing.
        "CREATE INDEX rows_put_aside ON rows (state) WHERE state <> 'queued'",
        "CREATE INDEX rows_by_request ON rows (request_id)",
        # In the order of delivery, which is the order in which they are forgotten.
        """CREATE TABLE delivered (
            number INTEGER PRIMARY KEY,
            event_id BLOB NOT NULL UNIQUE,
            store_ns INTEGER NOT NULL,
            delivered_at INTEGER NOT NULL
        )""",
        "CREATE INDEX delivered_by_slot ON delivered (store_ns)",
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
    (
        # Every event that this spool took, queued or delivered, by its place in the store: a place
        # is close to that of the event before, a digest lies anywhere. So what a delivery marks is
        # a few neighbouring pages, where moving digests between two tables touched an index page
        # for almost each of them (28 us of an event, against 4). `is_delivered` and `changed_at`
        # (queued or delivered then) keep their size when they change, and so their page.
        """CREATE TABLE digests (
            store_ns INTEGER PRIMARY KEY,
            event_id BLOB NOT NULL,
            is_delivered INTEGER NOT NULL,
            changed_at INTEGER NOT NULL
        )""",
        "INSERT INTO digests SELECT store_ns, event_id, 0, queued_at FROM rows",
        # After the rows, so that they are sorted once: it halves the time of a long queue.
        "CREATE UNIQUE INDEX digests_by_event ON digests (event_id)",
        "INSERT OR IGNORE INTO digests SELECT store_ns, event_id, 1, delivered_at FROM delivered",
        # One whose place another event has is kept all the same, before 1970 where none stands.
        "INSERT OR IGNORE INTO digests SELECT -number, event_id, 1, delivered_at FROM delivered",
        # The order in which they are forgotten.
        "CREATE INDEX digests_delivered ON digests (changed_at) WHERE is_delivered",
        "DROP TABLE delivered",
        # The queue, without the two indexes that the digests have now; numbers go on as they were.
        "ALTER TABLE rows RENAME TO first_rows",
        """CREATE TABLE rows (
            row_id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            event_id BLOB NOT NULL,
            request_id TEXT NOT NULL,
            store_ns INTEGER NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            words TEXT NOT NULL DEFAULT '',
            queued_at INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        "INSERT INTO sqlite_sequence SELECT 'rows', seq FROM sqlite_sequence"
        " WHERE name = 'first_rows'",
        "INSERT INTO rows SELECT row_id, kind, event_id, request_id, store_ns, state, attempts,"
        " words, queued_at, json FROM first_rows",
        "DROP TABLE first_rows",
        "CREATE INDEX rows_put_aside ON rows (state) WHERE state <> 'queued'",
        "CREATE INDEX rows_by_request ON rows (request_id)",
    ),
    (
        # For other versions that have the file open or open it later: in a host beside a newer
        # sidecar, and in answers that still run while the plugin is being replaced. A row has its
        # digest, whichever of them queues it (the second one has just written it). Host rows say
        # something new each time: nothing of them is kept.
        """CREATE TRIGGER row_queued AFTER INSERT ON rows BEGIN
            INSERT OR IGNORE INTO digests VALUES (new.store_ns, new.event_id, 0, new.queued_at);
        END""",
        """CREATE TRIGGER host_row_gone AFTER DELETE ON rows WHEN old.kind = 'host' BEGIN
            DELETE FROM digests WHERE store_ns = old.store_ns;
        END""",
        # What the first version looks up, adds to and forgets.
        """CREATE VIEW delivered (number, event_id, store_ns, delivered_at) AS
            SELECT store_ns, event_id, store_ns, changed_at FROM digests WHERE is_delivered""",
        """CREATE TRIGGER delivered_added INSTEAD OF INSERT ON delivered BEGIN
            UPDATE digests SET is_delivered = 1, changed_at = new.delivered_at
            WHERE store_ns = new.store_ns;
        END""",
        """CREATE TRIGGER delivered_forgotten INSTEAD OF DELETE ON delivered BEGIN
            DELETE FROM digests WHERE store_ns = old.store_ns;
        END""",
    ),
)


def check_spool(
    connection: sqlite3.Connection,
    path: Path,
    migrations: tuple[tuple[str, ...], ...] = SPOOL_MIGRATIONS,
) -> None:
    """See whether the file is ours to use, without changing it.

    A newer one is, if it says that it only has more. Raises SpoolTooNew for a file that needs a
    later version, SpoolError for the database of another program.
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and spool_pragma(connection, "application_id") != SPOOL_APPLICATION_ID:
        raise SpoolError(f"{path} is a database of another program; choose another spool folder")
    version = spool_pragma(connection, "user_version")
    if version <= len(migrations):
        return
    needed = connection.execute("SELECT value FROM meta WHERE name = 'min_reader'").fetchone()
    if needed is None or needed[0] > len(migrations):
        raise SpoolTooNew(
            f"{path} was written by a later version (schema {version}, this one knows "
            f"{len(migrations)}): update this installation or choose another spool folder"
        )


def upgrade_spool(
    connection: sqlite3.Connection, migrations: tuple[tuple[str, ...], ...] = SPOOL_MIGRATIONS
) -> None:
    """Bring a checked file up to date in one transaction. The caller holds the lock."""
    version = spool_pragma(connection, "user_version")
    if version >= len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {SPOOL_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def spool_pragma(connection: sqlite3.Connection, name: str) -> int:
    """Read a number that SQLite keeps about the file."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
