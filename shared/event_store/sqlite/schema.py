"""The tables of the embedded event store, and opening its file."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from shared.core.sqlite_schema import sqlite_pragma, upgrade_schema
from shared.errors import ConfigError

# One entry of statements per version of the schema, the newest last; each one only adds.
MIGRATIONS: Sequence[Sequence[str]] = (
    (
        # `part` is 1 for an event that is a part of a request, which another event counts.
        """CREATE TABLE events (
            event_id TEXT NOT NULL UNIQUE,
            request_id TEXT NOT NULL,
            occurred_at_ms INTEGER NOT NULL,
            client_org_id TEXT NOT NULL,
            external_user TEXT NOT NULL,
            model TEXT NOT NULL,
            task TEXT NOT NULL,
            source TEXT NOT NULL,
            input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            total_tokens INTEGER NOT NULL,
            cached_tokens INTEGER NOT NULL,
            cache_write_tokens INTEGER NOT NULL,
            reasoning_tokens INTEGER NOT NULL,
            cost_pico_usd INTEGER,
            upstream_pico_usd INTEGER,
            estimated_pico_usd INTEGER,
            json TEXT NOT NULL,
            part INTEGER
        )""",
        # Which bills a span holds is told by the index alone, without the far wider rows.
        "CREATE INDEX bills_by_time ON events (occurred_at_ms, request_id)",
        "CREATE INDEX events_by_request ON events (request_id)",
        # Tells at once whether whole answers may stand beside generations.
        """CREATE INDEX turns_by_time ON events (occurred_at_ms)
            WHERE json_extract(json, '$.grain') = 'turn'""",
        """CREATE TABLE unmetered (
            event_id TEXT NOT NULL UNIQUE,
            occurred_at_ms INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        "CREATE INDEX unmetered_by_time ON unmetered (occurred_at_ms)",
        """CREATE TABLE hosts (
            host_id TEXT NOT NULL PRIMARY KEY,
            occurred_at_ms INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        """CREATE TABLE users (
            user_id TEXT NOT NULL PRIMARY KEY,
            occurred_at_ms INTEGER NOT NULL,
            json TEXT NOT NULL
        )""",
        # Which store was seen to hold events of which quarter of an hour.
        """CREATE TABLE holdings (
            store TEXT NOT NULL,
            bucket_ms INTEGER NOT NULL,
            PRIMARY KEY (store, bucket_ms)
        ) WITHOUT ROWID""",
    ),
)


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """Open a connection that any thread may use, one at a time; mode `rwc` makes a missing file.

    FULL, because a spool forgets a row that the store accepted: it must survive a power loss.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=30,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def open_store(path: Path) -> sqlite3.Connection:
    """Open the file of a store, made or upgraded as needed.

    Raises ConfigError when a later version wrote it, and sqlite3.Error when it cannot be used.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = connect(path, "rwc")
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        if sqlite_pragma(connection, "user_version") > len(MIGRATIONS):
            raise ConfigError("USAGE_STORE_PATH", path, "was written by a later version; upgrade")
        upgrade_schema(connection, MIGRATIONS)
    except BaseException:
        connection.close()
        raise
    return connection
