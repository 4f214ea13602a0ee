"""A set of ids on disk, for as many as an import may have."""

import sqlite3
from hashlib import blake2b
from typing import Self


class SeenIds:
    """A set of millions of ids in a temporary file that is deleted on closing."""

    def __init__(self) -> None:
        # An empty name is SQLite's for a private file that is deleted on closing.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE found (text BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def __contains__(self, text: str) -> bool:
        query = "SELECT 1 FROM found WHERE text = ?"
        return self._db.execute(query, (_short(text),)).fetchone() is not None

    def add(self, text: str) -> bool:
        """Add an id; False when the set had it already."""
        query = "INSERT OR IGNORE INTO found VALUES (?)"
        return self._db.execute(query, (_short(text),)).rowcount == 1


def _short(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
