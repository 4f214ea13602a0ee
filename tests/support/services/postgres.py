"""A real PostgreSQL server for tests: Debian's, started once, a fresh database per test."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from demo.processes import free_port
from tests.conftest import missing
from tests.support.services.shared import SharedServer, shared_server
from tests.support.waiting import wait_for

REMEDY = "run `apt-get install postgresql`, or set USAGE_TEST_POSTGRES_URL"
_FOLDERS = (
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
)
# The kinds of a fixture's `params`.
DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.service))
_numbers = count(1)


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `url` names its maintenance database and somebody who may do everything."""

    url: str

    def database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"usage_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, database_url: str) -> None:
        """Drop a database whoever is connected to it."""
        name = make_url(database_url).database
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def a_database(kind: str, folder: Path, file: str = "summaries.sqlite3") -> Iterator[str]:
    """Give the URL of a new database, `sqlite` in a folder or `postgresql`, and drop it."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / file}"
        return
    server = postgres_server()
    url = server.database()
    yield url
    server.drop(url)


@cache
def postgres_server() -> PostgresServer:
    """Return the server that this run of the tests shares, started on first use."""
    given = os.environ.get("USAGE_TEST_POSTGRES_URL")
    return PostgresServer(given or shared_server("postgres", _start)["url"])


def _start(home: Path) -> SharedServer:
    programs = _programs()
    password = secrets.token_hex(8)
    (home / "password").write_text(password)
    as_user = _unprivileged(home)
    data = home / "data"
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "usage", "-E", "UTF8"]
    options = ["--auth=scram-sha-256", "--no-locale", "--no-sync"]
    subprocess.run(
        [*as_user, *initdb, *options, f"--pwfile={home / 'password'}"],
        check=True,
        capture_output=True,
        cwd=home,
    )
    port = free_port()
    postgres = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(home)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*as_user, *postgres, "-F", "-c", "listen_addresses=127.0.0.1"],
            stdout=log,
            stderr=log,
            cwd=home,
            start_new_session=True,
        )
    url = f"postgresql://usage:{password}@127.0.0.1:{port}/postgres"
    wait_for(lambda: _answers(url))
    return SharedServer(process, {"url": url})


def _programs() -> Path:
    for folder in (*_FOLDERS, *os.environ.get("PATH", "").split(os.pathsep)):
        if (Path(folder) / "postgres").exists() and (Path(folder) / "initdb").exists():
            return Path(folder)
    missing("PostgreSQL", REMEDY)
    raise AssertionError("missing() never returns")


def _unprivileged(home: Path) -> list[str]:
    """Return how to run as somebody else: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    shutil.chown(home, "nobody", "nogroup")
    shutil.chown(home / "password", "nobody", "nogroup")
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
