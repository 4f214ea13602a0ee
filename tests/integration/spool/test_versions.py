"""A spool file between versions, and one that is not ours to use."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shared.core.sqlite_schema import sqlite_pragma, upgrade_schema
from shared.errors import SpoolError, SpoolTooNew
from shared.spool.schema import SPOOL_APPLICATION_ID, SPOOL_MIGRATIONS
from tests.support.builders import settled
from tests.support.spool_files import merge_log, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "function.sqlite3"


def fill(path: Path) -> None:
    with opened(path) as spool:
        assert spool.put([settled()]).result(20) == ["queued"]


def run_sql(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(script)


def test_a_file_of_a_later_version_is_used_when_it_only_has_more(path: Path) -> None:
    fill(path)
    addition = "ALTER TABLE rows ADD COLUMN note TEXT NOT NULL DEFAULT 'new'"
    later = (*SPOOL_MIGRATIONS, (addition,))
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        upgrade_schema(file, later, SPOOL_APPLICATION_ID)
        upgrade_schema(file, later, SPOOL_APPLICATION_ID)
        assert file.execute("SELECT DISTINCT note FROM rows").fetchall() == [("new",)]
        assert sqlite_pragma(file, "user_version") == len(later)
    with opened(path) as spool:
        assert spool.put([settled()]).result(20) == ["duplicate"]
        assert spool.put([settled(request_id="turn:a:b")]).result(20) == ["queued"]
        assert len(spool.take(10)) == 2


def test_a_failing_upgrade_leaves_the_file_as_it_was(path: Path) -> None:
    fill(path)
    broken = (*SPOOL_MIGRATIONS, ("ALTER TABLE rows ADD COLUMN note TEXT", "ALTER TABLE nothing"))
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        with pytest.raises(sqlite3.OperationalError):
            upgrade_schema(file, broken, SPOOL_APPLICATION_ID)
        assert sqlite_pragma(file, "user_version") == len(SPOOL_MIGRATIONS)
        assert "note" not in {row[1] for row in file.execute("PRAGMA table_info(rows)")}
    with opened(path) as spool:
        assert len(spool.take(10)) == 1


def test_a_file_that_needs_a_later_version_is_left_alone(path: Path) -> None:
    fill(path)
    merge_log(path)
    run_sql(path, "UPDATE meta SET value = 7 WHERE name = 'min_reader'; PRAGMA user_version = 9;")
    before = path.read_bytes()
    with opened(path) as spool:
        with pytest.raises(SpoolTooNew, match=r"schema 9, this one knows \d+\): update this"):
            spool.put([settled()]).result(20)
        with pytest.raises(SpoolTooNew):
            spool.status()
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    run_sql(path, "CREATE TABLE chat (id TEXT); INSERT INTO chat VALUES ('1');")
    before = path.read_bytes()
    with opened(path) as spool, pytest.raises(SpoolError, match="another program"):
        spool.put([settled()]).result(20)
    assert path.read_bytes() == before
