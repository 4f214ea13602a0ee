"""Spool files on disk, as tests open, read and damage them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool
from tests.support.spools import SetClock
from tests.support.waiting import wait_for


@contextmanager
def opened(path: Path, settings: SpoolSettings | None = None) -> Iterator[SqliteSpool]:
    """Use a spool for a while, at noon."""
    spool = SqliteSpool(path, settings=settings, clock=SetClock())
    try:
        yield spool
    finally:
        spool.close()


def merge_log(path: Path) -> None:
    """Leave nothing in the log that SQLite could heal the file with."""
    with closing(sqlite3.connect(path)) as file:
        # Busy while a writer does the same.
        wait_for(lambda: file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
