"""The version of a SQLite file's tables, kept in its `user_version`, and bringing it up to date."""

import sqlite3
from collections.abc import Sequence


def sqlite_pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def upgrade_schema(
    connection: sqlite3.Connection, migrations: Sequence[Sequence[str]], application_id: int = 0
) -> None:
    """Run what a file lacks of `migrations`, one entry of statements per version.

    All in one transaction, also among processes; a file of a later version is left alone.
    """
    if sqlite_pragma(connection, "user_version") >= len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = sqlite_pragma(connection, "user_version")  # another process may have been faster
        if version < len(migrations):
            for statements in migrations[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {application_id}")
            connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
