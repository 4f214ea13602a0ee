"""Erasing a person from the embedded event store: the amounts stay, the name goes."""

import sqlite3
from contextlib import closing
from json import dumps, loads
from pathlib import Path

from shared.errors import Unavailable
from shared.event_store.sqlite.schema import connect

_ROWS_AT_ONCE = 1000


def erase_person(path: Path, user_id: str, alias: str | None) -> int:
    """Forget a user's profile and, with an alias, put that in the user's place in events.

    Returns how many events changed. Everything but the user stays, so that every total is the same
    to the last digit. All or nothing; done twice, it changes nothing more. Raises Unavailable for
    trouble with the disk.
    """
    try:
        with closing(connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM users WHERE user_id = ?", (user_id,))
            changed = 0
            if alias is not None:
                changed = _rename_events(connection, user_id, alias)
                _rename_unmetered(connection, user_id, alias)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise Unavailable(f"{path}: {error}") from error
    return changed


def _rename_events(connection: sqlite3.Connection, user_id: str, alias: str) -> int:
    changed = 0
    while rows := connection.execute(
        "SELECT rowid, json FROM events WHERE external_user = ? LIMIT ?", (user_id, _ROWS_AT_ONCE)
    ).fetchall():
        connection.executemany(
            "UPDATE events SET external_user = ?, json = ? WHERE rowid = ?",
            [(alias, _renamed(text, alias), row_id) for row_id, text in rows],
        )
        changed += len(rows)
    return changed


def _rename_unmetered(connection: sqlite3.Connection, user_id: str, alias: str) -> None:
    rows = connection.execute(
        "SELECT rowid, json FROM unmetered WHERE json_extract(json, '$.external_user') = ?",
        (user_id,),
    ).fetchall()
    connection.executemany(
        "UPDATE unmetered SET json = ? WHERE rowid = ?",
        [(_renamed(text, alias), row_id) for row_id, text in rows],
    )


def _renamed(text: str, alias: str) -> str:
    return dumps(loads(text) | {"external_user": alias}, separators=(",", ":"), ensure_ascii=False)
