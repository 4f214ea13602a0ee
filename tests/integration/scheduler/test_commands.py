"""The operator's commands, as a new admin types them: in an empty folder, first this one."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from shared.spool.sqlite_spool import SqliteSpool
from tests.conftest import ROOT
from tests.support.builders import settled


def scheduler(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scheduler", *arguments],
        cwd=home,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_organization_can_be_the_first_thing_there_is(tmp_path: Path) -> None:
    added = scheduler(tmp_path, "organization", "add", "acme", "--markup", "1.15")
    assert (added.returncode, added.stderr) == (0, "")
    scheduler(tmp_path, "organization", "assign", "alice-id", "acme")
    listed = scheduler(tmp_path, "organization", "list").stdout
    assert all(word in listed for word in ("acme", "1.15 from 1970-01-01", "alice-id"))


def test_a_command_keeps_the_rules_of_the_api(tmp_path: Path) -> None:
    scheduler(tmp_path, "organization", "add", "acme")
    again = scheduler(tmp_path, "organization", "add", "acme")
    assert (again.returncode, again.stderr) == (1, "acme exists already\n")
    unknown = scheduler(tmp_path, "organization", "assign", "alice-id", "nowhere")
    assert (unknown.returncode, unknown.stderr) == (1, "organization 'nowhere' is not known\n")


def test_an_empty_month_is_projected_and_verified(tmp_path: Path) -> None:
    span = ("--from", "2026-11-01", "--to", "2026-11-30")
    assert "30 days projected" in scheduler(tmp_path, "project", *span).stdout
    verified = scheduler(tmp_path, "verify", *span)
    assert verified.returncode == 0
    assert "agree to the last digit" in verified.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("run",), {"USAGE_TIMEZONE": "Mars"}, "USAGE_TIMEZONE: is no time zone"),
        (("run",), {"INFLUXDB_FIRST_ENABLED": "yes"}, "INFLUXDB_URL: is needed"),
        (("run",), {"USAGE_SPOOL_DIR": "/proc/spool"}, "USAGE_SPOOL_DIR: cannot be made"),
        (
            ("organization", "list"),
            {"USAGE_DATABASE_URL": "sqlite:////proc/here/s.sqlite3"},
            "USAGE_DATABASE_URL: cannot be made",
        ),
        (("organization", "add", "acme", "--markup", "lots"), {}, "markup 'lots': not_a_number"),
        (("spool", "status", "nowhere.sqlite3"), {}, "nowhere.sqlite3: no such spool"),
        (("verify", "--from", "2026-11-02", "--to", "2026-11-01"), {}, "lies before --from"),
    ],
)
def test_what_is_wrong_ends_a_command_with_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    ended = scheduler(tmp_path, *arguments, **environment)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


SPOOL_COMMANDS = pytest.mark.parametrize("command", ["status", "dead-letters", "replay", "export"])


@SPOOL_COMMANDS
def test_the_log_of_a_spool_in_use_is_left_alone(tmp_path: Path, command: str) -> None:
    with closing(SqliteSpool(tmp_path / "function.sqlite3")) as spool:
        assert spool.put([settled()]).result(20) == ["queued"]
        before = sorted(tmp_path.iterdir())
        ended = scheduler(tmp_path, "spool", command, "function.sqlite3-wal")
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "function.sqlite3-wal: this is no spool; it was left as it is" in ended.stderr
        assert sorted(tmp_path.iterdir()) == before
        assert spool.put([settled()]).result(20) == ["duplicate"]


@SPOOL_COMMANDS
def test_the_database_of_another_program_ends_a_command_with_a_sentence(
    tmp_path: Path, command: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "webui.db")) as database, database:
        database.execute("CREATE TABLE chat (id TEXT)")
    ended = scheduler(tmp_path, "spool", command, "webui.db")
    assert ended.returncode == 1
    assert "webui.db is a database of another program" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("content", ["", "no database at all\n" * 1000], ids=["empty", "text"])
def test_a_file_of_something_else_is_not_taken_for_a_damaged_spool(
    tmp_path: Path, content: str
) -> None:
    other = tmp_path / "other"
    other.write_text(content)
    ended = scheduler(tmp_path, "spool", "status", "other")
    assert (ended.returncode, "other: this is no spool" in ended.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == [other]
    assert other.read_text() == content
