"""A damaged spool file: how to recognize it, and what of it can be rescued."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from shared.core.rows import row_from_json
from shared.errors import InvalidEvent

# What a damaged file raises. sqlite3 cannot put damaged bytes of a schema into its own message.
SPOOL_FILE_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
_CORRUPT_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_COLUMNS = (
    "row_id, kind, event_id, request_id, point_time_ns, state, attempts, message, queued_at, json"
)


def is_corrupt(error: BaseException) -> bool:
    """Tell whether SQLite found a file damaged, or no database at all."""
    if isinstance(error, UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _CORRUPT_CODES


def spool_text(data: bytes) -> str:
    """Read a text; one that is damaged is no JSON any more, so that only its row is refused."""
    return data.decode("utf-8", "backslashreplace")


def rescue_rows(aside: Path, connection: sqlite3.Connection, now_ms: int) -> int:
    """Queue in a new file the rows that a damaged one still holds whole; returns how many.

    A file is used until SQLite meets the damage: rows that are in it by then were promised to
    last. They keep their numbers, and new ones begin beyond all of the old file's, so that a
    late acknowledgement hits no other row.
    """
    rescued = 0
    connection.execute("BEGIN IMMEDIATE")
    for row in _rows_that_can_be_read(aside):
        if _is_whole(row):
            rescued += connection.execute(
                f"INSERT OR IGNORE INTO rows ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - own words
                row,
            ).rowcount
    connection.execute(
        "INSERT OR IGNORE INTO digests SELECT point_time_ns, event_id, 0, queued_at FROM rows"
    )
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'rows'")
    connection.execute("INSERT INTO sqlite_sequence VALUES ('rows', ?)", (now_ms,))
    connection.execute("COMMIT")
    return rescued


def _rows_that_can_be_read(aside: Path) -> Iterator[tuple[Any, ...]]:
    """Return rows up to the damage, then those behind it, from the last one back."""
    with closing(sqlite3.connect(f"{aside.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.text_factory = spool_text
        for order in ("ASC", "DESC"):
            try:
                yield from db.execute(
                    f"SELECT {_COLUMNS} FROM rows NOT INDEXED WHERE kind <> 'host'"  # noqa: S608 - own words
                    f" ORDER BY row_id {order}"
                )
            except SPOOL_FILE_ERRORS:
                continue
            return


def _is_whole(row: tuple[Any, ...]) -> bool:
    """Tell whether a row is what was queued: its JSON has the identity of its column."""
    try:
        digest: str = row[2].hex()
        return row_from_json(row[1], row[-1]).event_id == digest and isinstance(row[4], int)
    except (InvalidEvent, AttributeError, TypeError, ValueError):
        return False
