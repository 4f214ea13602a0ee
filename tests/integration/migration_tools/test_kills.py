"""Killed anywhere and run again, a migration or a rollback ends as if it had run once."""

import gc
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migration_tools.backups.manifest import Backups
from migration_tools.importing import writer as writing
from shared.event_store.sqlite.store import EmbeddedStore
from shared.summary_db.organizations import Organizations
from shared.summary_db.summary_days import SummaryDays
from shared.summary_db.users import Users
from tests.conftest import ROOT
from tests.support.legacy import Request, believable_requests, huge_database, legacy_database
from tests.support.migrations import Lab, lab_in

STEPS = (
    (EmbeddedStore, "write"),
    (EmbeddedStore, "delete_import"),
    (Backups, "save"),
    (Backups, "note_progress"),
    (Organizations, "add"),
    (Organizations, "set_rate"),
    (Users, "assign"),
    (Users, "remove_assignment"),
    (SummaryDays, "replace_day"),
)
SPAN = ("--start-date", "2025-01-01", "--end-date", "2025-01-31")


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Killer:
    """Lets so many steps happen, then kills before or after the next one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.after = False
        for owner, name in STEPS:
            monkeypatch.setattr(owner, name, self._around(getattr(owner, name)))

    def _around(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            if self.left == 0 and not self.after:
                raise Killed
            found = step(*arguments, **named)
            if self.left == 0:
                raise Killed
            self.left -= 1
            return found

        return run


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    legacy_database(tmp_path / "webui.db", believable_requests(days=2))
    monkeypatch.setattr(writing, "BATCH_ROWS", 11)
    return lab_in(tmp_path, monkeypatch)


def killed_at_every_step(killer: Killer, command: Callable[[], object]) -> int:
    """Run a command until it ends by itself, killed one step later each time; count the kills."""
    kills = 0
    while True:
        for killer.after in (False, True):
            killer.left = kills
            try:
                command()
            except Killed:
                # Its open generators hold connections that only this thread may close.
                gc.collect()
                continue
            return kills
        kills += 1


def books(lab: Lab) -> tuple[object, ...]:
    rows = lab.view("SELECT * FROM daily_usage ORDER BY 1, 2, 3, 4, 5, 6")
    return (
        [row[:-1] for row in rows],  # without the time of writing
        lab.view("SELECT id, name, time_zone FROM client_organizations ORDER BY 1"),
        lab.view("SELECT organization_id, valid_from, rate_ppm FROM markup_rates ORDER BY 1, 2"),
        lab.view("SELECT external_user, organization_id, valid_from FROM user_assignments"),
        sorted(event.to_json() for event in lab.events()),
    )


def test_a_migration_killed_at_every_step_ends_with_the_same_books(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run("migrate", *SPAN)
    wanted = books(lab)
    folder = tmp_path_factory.mktemp("killed")
    legacy_database(folder / "webui.db", believable_requests(days=2))
    killed = lab_in(folder, monkeypatch)
    with monkeypatch.context() as patch:
        kills = killed_at_every_step(Killer(patch), lambda: killed.run("migrate", *SPAN))
    assert kills > 5
    assert books(killed) == wanted
    # One that was killed before its import began stays behind as what it is, a backup.
    backups = killed.run("list")["backups"]
    [backup] = [each for each in backups if each["state"] != "backed up"]
    assert (backup["state"], backup["troubles"]) == ("imported", [])
    assert killed.run("verify", *SPAN)["differences"] == []
    with monkeypatch.context() as patch:
        command = ("rollback", "--backup-id", backup["backup_id"])
        assert killed_at_every_step(Killer(patch), lambda: killed.run(*command)) > 1
    assert killed.events() == []
    assert killed.view("SELECT count(*) FROM daily_usage") == [(0,)]
    assert killed.view("SELECT count(*) FROM user_assignments") == [(0,)]


def test_an_interrupted_rollback_is_finished_before_the_next_import(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = lab.run("migrate", *SPAN)
    with monkeypatch.context() as patch:
        killer = Killer(patch)
        killer.left, killer.after = 1, False
        with pytest.raises(Killed):
            lab.run("rollback", "--backup-id", output["backup_id"])
    refused = lab.run("migrate", *SPAN, code=3)
    assert f"the rollback of {output['backup_id']} was interrupted" in refused["error"]
    lab.run("rollback", "--backup-id", output["backup_id"])
    lab.run("migrate", *SPAN)
    lab.run("verify", *SPAN)


def test_processes_killed_at_random_moments_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = lab_in(tmp_path, monkeypatch)
    huge_database(tmp_path / "webui.db", days=15, people=900, models=3)
    chance = random.Random(7)
    command = [sys.executable, "-m", "migration_tools", "migrate", "--json"]
    for _ in range(5):
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | lab.environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(chance.uniform(1.0, 4.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    lab.run("migrate")
    with closing(sqlite3.connect(tmp_path / "webui.db")) as db:
        rows = db.execute("SELECT total_tokens, raw_cost FROM client_daily_usage").fetchall()
    tokens, pico = sum(row[0] for row in rows), sum(round(row[1] * 10**12) for row in rows)
    [found] = lab.view("SELECT sum(total_tokens), sum(raw_pico_usd) FROM daily_usage")
    assert found == (tokens, pico)
    assert lab.run("verify")["differences"] == []


def test_two_migrations_at_once_are_one_after_the_other(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = EmbeddedStore.write
    answers: list[str] = []

    def write_while_another_begins(store: EmbeddedStore, rows: Any) -> Any:
        if not answers:
            answers.append("begun")
            answers.append(lab.run("migrate", *SPAN, code=3)["error"])
        return write(store, rows)

    monkeypatch.setattr(EmbeddedStore, "write", write_while_another_begins)
    lab.run("migrate", *SPAN)
    assert "another migration or rollback is running" in answers[1]
    assert len(lab.events()) == len(believable_requests(days=2))


def test_a_store_that_lost_an_import_gets_it_back_by_running_it_again(lab: Lab) -> None:
    lab.run("migrate", *SPAN)
    with lab.ledger() as ledger:
        [backup] = lab.run("list")["backups"]
        ledger.target.delete_import(backup["import_id"])
    assert lab.run("verify", *SPAN, code=1)["differences"]
    lab.run("migrate", *SPAN, code=None)
    assert lab.run("verify", *SPAN)["differences"] == []


def test_a_source_without_anything_leaves_nothing_behind(lab: Lab) -> None:
    (lab.folder / "webui.db").unlink()
    legacy_database(lab.folder / "webui.db", list[Request]())
    assert lab.run("migrate", *SPAN)["events"] == 0
    assert not list(lab.folder.glob("backups/backup_*"))
