"""Backups are consistent copies with a manifest that tells when they are not what they were."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migration_tools.backups.manifest import Backups
from shared.summary_db.engine import upgrade
from tests.conftest import ROOT
from tests.support.legacy import believable_requests, legacy_database
from tests.support.migrations import Lab, lab_in
from tests.support.services.postgres import postgres_server

SPAN = ("--start-date", "2025-01-01", "--end-date", "2025-01-05")
SCRIPT = "migration_tools/migrate_to_influxdb_first.py"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    legacy_database(tmp_path / "webui.db", believable_requests())
    return lab_in(tmp_path, monkeypatch)


def test_a_backup_holds_rows_sums_versions_and_checksums(lab: Lab) -> None:
    lab.run("migrate", *SPAN)
    output = lab.run("backup")
    manifest = Backups(lab.folder / "backups").load(output["backup_id"])
    database = manifest.database
    assert database is not None
    [(rows, events, raw)] = lab.view(
        "SELECT count(*), sum(events), sum(raw_pico_usd) FROM daily_usage"
    )
    assert database.rows["daily_usage"] == rows
    assert (database.sums["events"], database.sums["raw_pico_usd"]) == (events, raw)
    assert database.kind == "sqlite"
    assert len(manifest.files[0].sha256) == 64
    copy = lab.folder / "backups" / output["backup_id"] / "summaries.sqlite3"
    assert copy.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT count(*) FROM daily_usage").fetchone() == (rows,)


def test_a_copy_taken_while_somebody_writes_is_what_was_committed(lab: Lab) -> None:
    lab.run("migrate", *SPAN)
    with closing(sqlite3.connect(lab.folder / "summaries.sqlite3", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM daily_usage")
        output = lab_backup_of(lab)
        writer.execute("ROLLBACK")
    assert output["rows"] == lab.view("SELECT count(*) FROM daily_usage")[0][0]


def lab_backup_of(lab: Lab) -> dict[str, int]:
    from migration_tools.backups.backup import make_backup

    url = f"sqlite:///{lab.folder}/summaries.sqlite3"
    manifest = make_backup(Backups(lab.folder / "backups"), url, "1", datetime.now(UTC))
    assert manifest.database is not None
    return {"rows": manifest.database.rows["daily_usage"]}


def test_a_migration_begins_with_a_backup_and_refuses_without_one(lab: Lab) -> None:
    (lab.folder / "backups").write_text("a file where the folder should be")
    assert lab.run("migrate", *SPAN, code=3)["error"]
    assert lab.events() == []
    (lab.folder / "backups").unlink()
    output = lab.run("migrate", *SPAN, "--without-backup")
    [listed] = lab.run("list")["backups"]
    assert (listed["backup_id"], listed["files"]) == (output["backup_id"], [])
    lab.run("rollback", "--backup-id", output["backup_id"])
    assert lab.events() == []


def test_a_backup_made_before_can_be_named_unless_it_was_touched(lab: Lab) -> None:
    backup_id = lab.run("backup")["backup_id"]
    copy = lab.folder / "backups" / backup_id / "summaries.sqlite3"
    content = copy.read_bytes()
    copy.write_bytes(content + b" ")
    output = lab.run("migrate", *SPAN, "--backup-id", backup_id, code=3)
    assert "is not what was saved" in output["error"]
    assert "is not what was saved" in lab.run("list", code=1)["backups"][0]["troubles"][0]
    copy.write_bytes(content)
    assert lab.run("migrate", *SPAN, "--backup-id", backup_id)["backup_id"] == backup_id


def test_a_backup_that_nothing_followed_and_one_that_is_not_there_are_refused(lab: Lab) -> None:
    backup_id = lab.run("backup")["backup_id"]
    assert "no import followed" in lab.run("rollback", "--backup-id", backup_id, code=3)["error"]
    missing = lab.run("rollback", "--backup-id", "backup_20200101_000000", code=3)
    assert "no such backup" in missing["error"]
    odd = lab.run("rollback", "--backup-id", "../../etc", code=3)
    assert "is no backup id" in odd["error"]


@pytest.mark.service
def test_postgresql_is_dumped_in_the_state_that_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = postgres_server()
    url, restored = server.database(), server.database()
    legacy_database(tmp_path / "webui.db", believable_requests())
    lab = lab_in(tmp_path, monkeypatch, USAGE_DATABASE_URL=url)
    try:
        first = lab.run("migrate", *SPAN)
        output = lab.run("backup")
        database = Backups(tmp_path / "backups").load(output["backup_id"]).database
        assert database is not None and database.kind == "postgresql"
        assert database.sums["raw_pico_usd"] == 37_264_895_000
        target = restored.replace("+psycopg", "")
        subprocess.run(
            ["pg_restore", "--no-owner", f"--dbname={target}", output["path"]], check=True
        )
        upgrade(restored)
        assert lab.run("verify", *SPAN)["differences"] == []
        lab.run("rollback", "--backup-id", first["backup_id"])
        assert lab.events() == []
    finally:
        server.drop(url)
        server.drop(restored)


def script(lab: Lab, *arguments: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments, "--json"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {"error": done.stderr}


def test_the_flags_of_the_original_do_what_they_did(lab: Lab) -> None:
    assert script(lab, "--validate-only")[0] == 0
    code, output = script(lab, "--migrate", *SPAN, "--dry-run")
    assert (code, output["events"], lab.events()) == (0, 90, [])
    assert script(lab, "--validate-migration", *SPAN)[0] == 1
    code, output = script(lab, "--migrate", *SPAN)
    assert code == 0
    assert script(lab, "--validate-migration", *SPAN)[0] == 0
    backup_id = str(output["backup_id"])
    assert script(lab, "--rollback", "--backup-id", backup_id)[0] == 0
    assert lab.events() == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--migrate", "--rollback"),
        ("--migrate",),
        ("--rollback",),
        ("--migrate", "--start-date", "2025-13-01", "--end-date", "2025-01-01"),
        ("--unknown",),
    ],
)
def test_a_wrong_command_line_is_told_by_its_exit_code(arguments: tuple[str, ...]) -> None:
    import typer
    from typer.testing import CliRunner

    from migration_tools.migrate_to_influxdb_first import main

    app = typer.Typer()
    app.command()(main)
    assert CliRunner().invoke(app, list(arguments)).exit_code == 2


def test_a_database_that_cannot_be_reached_is_worth_another_try(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USAGE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/usage")
    assert lab.run("migrate", *SPAN, code=4)["kind"] == "ProjectionError"
