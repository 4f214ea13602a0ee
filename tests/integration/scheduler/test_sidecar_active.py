"""Two sidecars of one database: one works, the other stands by and takes over when it is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from shared.spool.sqlite_spool import SqliteSpool
from shared.summary_db.leader_lock import leader_lock
from tests.conftest import ROOT
from tests.support.builders import generation_id, settled
from tests.support.services.postgres import DATABASES, a_database, postgres_server
from tests.support.sidecar_process import SidecarProcess
from tests.support.sidecars import ADMIN
from tests.support.waiting import wait_for


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with a_database(request.param, tmp_path) as url:
        yield url


class Fleet:
    """The sidecars of one test, all of them ended with it."""

    def __init__(self, home: Path, database_url: str) -> None:
        self._home = home
        self._database_url = database_url
        self._all: list[SidecarProcess] = []

    def start(self, name: str) -> SidecarProcess:
        """Start one more, listed before it is ready: it must end with the test all the same."""
        settings = {"USAGE_DATABASE_URL": self._database_url, "USAGE_EXPECT_HOSTS": "none"}
        started = SidecarProcess(self._home, name, settings)
        self._all.append(started)
        started.wait_until_ready()
        return started

    def end(self) -> None:
        """End those that still run."""
        for each in self._all:
            each.kill()


@pytest.fixture
def fleet(tmp_path: Path, database_url: str) -> Iterator[Fleet]:
    found = Fleet(tmp_path, database_url)
    yield found
    found.end()


def spooled(folder: Path, number: int) -> None:
    with closing(SqliteSpool(folder / "function.sqlite3")) as spool:
        now = datetime.now(UTC).replace(microsecond=0)
        made = generation_id(number, int(now.timestamp()))
        spool.put([settled(request_id=made, occurred_at=now)]).result(20)


def test_a_passive_sidecar_takes_over_when_the_active_one_is_killed(
    tmp_path: Path, fleet: Fleet
) -> None:
    first = fleet.start("first")
    second = fleet.start("second")
    assert (first.role(), second.role()) == ("active", "passive")
    spooled(tmp_path / "spool", 1)
    wait_for(lambda: first.booked() == 1)
    assert second.booked() == 1  # it reads, and did not book the event again
    assert second.client.get("/ready").json()["problems"][0]["name"] == "passive"

    first.end(signal.SIGKILL)
    wait_for(lambda: second.role() == "active", seconds=60)
    spooled(tmp_path / "spool", 2)
    wait_for(lambda: second.booked() == 2, seconds=60)
    wait_for(lambda: second.client.get("/ready").status_code == 200)

    third = fleet.start("third")
    assert third.role() == "passive"
    assert second.end(signal.SIGTERM) == 0
    wait_for(lambda: third.role() == "active", seconds=60)
    assert third.end(signal.SIGTERM) == 0
    assert "Traceback" not in first.said() + second.said() + third.said()


def test_a_batch_that_a_killed_sidecar_left_behind_is_interrupted(
    tmp_path: Path, fleet: Fleet
) -> None:
    first = fleet.start("first")
    body = {"start": "2019-01-01", "end": "2026-11-24"}
    first.client.post(f"{ADMIN}/batches", json=body).raise_for_status()
    first.end(signal.SIGKILL)
    second = fleet.start("second")
    wait_for(lambda: second.role() == "active", seconds=60)
    [request] = second.client.get(f"{ADMIN}/batches").json()["requests"]
    assert request["state"] == "interrupted"
    assert second.end(signal.SIGTERM) == 0


@pytest.mark.service
def test_a_lock_that_was_lost_with_its_connection_is_not_believed() -> None:
    server = postgres_server()
    url = server.database()
    mine, other = leader_lock(url), leader_lock(url)
    assert mine.hold()
    assert not other.hold()
    end_connections(url)
    assert not mine.hold()
    assert other.hold()
    assert not mine.hold()
    other.release()
    assert mine.hold()
    mine.release()
    server.drop(url)


def end_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_lock_is_given_up_and_taken_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'deep' / 'summaries.sqlite3'}"
    mine, other = leader_lock(url), leader_lock(url)
    assert mine.hold() and mine.hold()
    assert not other.hold()
    mine.release()
    assert other.hold()
    other.release()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_port_in_use_ends_the_sidecar_with_a_sentence(fleet: Fleet, tmp_path: Path) -> None:
    first = fleet.start("first")
    taken = str(first.client.base_url.port)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "USAGE_PORT": taken}
    ended = subprocess.run(
        [sys.executable, "-m", "scheduler", "run"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("USAGE_PORT: cannot be listened on")
