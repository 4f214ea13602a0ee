"""The operator's commands, as a new admin types them: in an empty folder, first this one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


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
