"""Real InfluxDB servers for tests: 1.8.10 and 2.9.1, with auth, each in its own data folder."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any, Literal

import httpx

from demo.processes import free_port
from shared.event_store.influx.write import InfluxSettings
from tests.conftest import CACHE, missing
from tests.support.services.shared import SharedServer, shared_server

Version = Literal["1.8", "2.9"]
REMEDY = "run `make services`, or set INFLUXDB_TEST_URL"
ORG = "test-org"
_START_SECONDS = 30.0
_numbers = count(1)


@dataclass
class InfluxServer:
    """A running server and who may do everything on it; `process` is None for one not ours."""

    version: Version
    url: str
    token: str = field(repr=False)
    org: str = ORG
    home: Path | None = None
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start a server of ours on its data folder, as often as it was ended, and await it."""
        assert self.home is not None
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _await_start(self)

    def kill(self) -> None:
        """End a server of ours as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Let a server of ours hang: it takes connections and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def bucket(self, retention_seconds: int = 0, name: str = "") -> InfluxSettings:
        """Make an empty bucket and return settings with the token that may do everything."""
        name = name or f"usage-{os.getpid()}-{next(_numbers)}"
        if self.version == "1.8":
            kept = f" WITH DURATION {retention_seconds}s" if retention_seconds else ""
            self.query(f'CREATE DATABASE "{name}"{kept}')
        else:
            rules = [{"type": "expire", "everySeconds": retention_seconds}]
            self.api(
                "buckets",
                {
                    "orgID": self.org_id(),
                    "name": name,
                    "retentionRules": rules if retention_seconds else [],
                },
            )
        return self.settings(name)

    def settings(self, bucket: str, token: str = "", org: str = "") -> InfluxSettings:
        """Return settings for a bucket; patient, because two servers share the machine."""
        return InfluxSettings(
            url=self.url,
            token=token or self.token,
            org=org or self.org,
            bucket=bucket,
            write_timeout_ms=20_000,
        )

    def token_for(self, bucket: str, *actions: Literal["read", "write"]) -> str:
        """Return a token that may do this to one bucket and nothing else."""
        if self.version == "1.8":
            user = f"user_{os.getpid()}_{next(_numbers)}"
            self.query(f"CREATE USER {user} WITH PASSWORD 'secret'")
            grant = {1: actions[0].upper() if actions else "", 2: "ALL"}.get(len(actions))
            if grant:
                self.query(f'GRANT {grant} ON "{bucket}" TO {user}')
            return f"{user}:secret"
        [found] = self.api_get("buckets", name=bucket)["buckets"]
        resource = {"type": "buckets", "id": found["id"], "orgID": self.org_id()}
        permissions = [{"action": action, "resource": resource} for action in actions]
        answer = self.api(
            "authorizations",
            {"orgID": self.org_id(), "permissions": permissions, "description": "a test's"},
        )
        return str(answer["token"])

    def drop(self, bucket: str) -> None:
        """Remove a bucket with everything in it."""
        if self.version == "1.8":
            self.query(f'DROP DATABASE "{bucket}"')
            return
        [found] = self.api_get("buckets", name=bucket)["buckets"]
        httpx.delete(
            f"{self.url}/api/v2/buckets/{found['id']}", headers=self._headers()
        ).raise_for_status()

    def query(self, text: str, bucket: str = "") -> Any:
        """Run InfluxQL and return the first result."""
        answer = httpx.post(
            f"{self.url}/query",
            data={"q": text, "db": bucket, "epoch": "ns"},
            headers=self._headers(),
            timeout=_START_SECONDS,
        ).raise_for_status()
        result = answer.json()["results"][0]
        assert "error" not in result, result
        return result

    def write(self, bucket: str, lines: str) -> None:
        """Write raw lines, as somebody else would."""
        httpx.post(
            f"{self.url}/api/v2/write",
            params={"org": self.org, "bucket": bucket},
            content=lines.encode(),
            headers=self._headers(),
        ).raise_for_status()

    def org_id(self) -> str:
        """Return the id of the organization."""
        [found] = self.api_get("orgs", org=self.org)["orgs"]
        return str(found["id"])

    def api(self, path: str, body: dict[str, Any]) -> Any:
        """Post to the 2.x interface."""
        answer = httpx.post(f"{self.url}/api/v2/{path}", json=body, headers=self._headers())
        return answer.raise_for_status().json()

    def api_get(self, path: str, **query: str) -> Any:
        """Get from the 2.x interface."""
        answer = httpx.get(f"{self.url}/api/v2/{path}", params=query, headers=self._headers())
        return answer.raise_for_status().json()

    def stop(self) -> None:
        """End a server of ours and forget its data."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # 2.x takes only this for a graceful end
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.token}"}


@cache
def influx_server(version: Version) -> InfluxServer:
    """Return the one server of this version that this run of the tests shares, started on demand.

    It is neither paused nor killed: a test that does this starts one of its own.
    """
    if url := os.environ.get("INFLUXDB_TEST_URL"):
        return _running_elsewhere(url.rstrip("/"), version)

    def start_it(home: Path) -> SharedServer:
        server = start(version, home)
        assert server.process is not None
        return SharedServer(server.process, {"url": server.url, "token": server.token})

    access = shared_server(f"influx-{version}", start_it)
    return InfluxServer(version, access["url"], access["token"])


def influx_program(version: Version) -> Path:
    """Return the server program of a version."""
    program = CACHE / "influx" / f"influxd{version[0]}"
    if not program.exists():
        missing(f"InfluxDB {version}", REMEDY)
    return program


def start(version: Version, home: Path | None = None) -> InfluxServer:
    """Start a server of the caller's own on a free port, with its first user."""
    program = influx_program(version)
    home = home or Path(tempfile.mkdtemp(prefix=f"influx-{version}-"))
    port = free_port()
    command, environment = (_command_1 if version == "1.8" else _command_2)(program, home, port)
    environment["HOME"] = str(home)
    secret = secrets.token_hex(16)
    server = InfluxServer(
        version,
        f"http://127.0.0.1:{port}",
        token=f"admin:{secret}" if version == "1.8" else secret,
        home=home,
        command=command,
        environment=environment,
    )
    try:
        server.launch()
        _make_first_user(server, secret)
    except BaseException:
        server.stop()
        raise
    return server


def _await_start(server: InfluxServer) -> None:
    assert server.process is not None and server.home is not None
    path = "/ping" if server.version == "1.8" else "/health"
    for _ in range(int(_START_SECONDS / 0.05)):
        try:
            if httpx.get(server.url + path).is_success:
                return
        except httpx.TransportError:
            pass
        if server.process.poll() is not None:
            break
        Event().wait(0.05)
    raise AssertionError(f"influxd did not start: {(server.home / 'log').read_text()[-2000:]}")


def _make_first_user(server: InfluxServer, secret: str) -> None:
    if server.version == "1.8":
        statement = f"CREATE USER admin WITH PASSWORD '{secret}' WITH ALL PRIVILEGES"
        httpx.post(f"{server.url}/query", data={"q": statement}).raise_for_status()
        return
    first = {"username": "admin", "password": secret, "org": ORG, "bucket": "first"}
    httpx.post(f"{server.url}/api/v2/setup", json=first | {"token": secret}).raise_for_status()


def _running_elsewhere(url: str, version: Version) -> InfluxServer:
    """Use the server that INFLUXDB_TEST_URL names, for the tests of its own version."""
    found = httpx.get(f"{url}/ping").headers.get("X-Influxdb-Version", "?")
    if found.lstrip("v").split(".")[0] != version[0]:
        missing(f"InfluxDB {version}", f"INFLUXDB_TEST_URL points at {found}")
    return InfluxServer(
        version,
        url,
        os.environ.get("INFLUXDB_TEST_TOKEN", ""),
        os.environ.get("INFLUXDB_TEST_ORG", ORG),
    )


def _command_1(program: Path, home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return how 1.8 is started: everything by environment."""
    environment = {
        "INFLUXDB_REPORTING_DISABLED": "true",
        "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{free_port()}",
        "INFLUXDB_META_DIR": f"{home}/meta",
        "INFLUXDB_DATA_DIR": f"{home}/data",
        "INFLUXDB_DATA_WAL_DIR": f"{home}/wal",
        "INFLUXDB_DATA_QUERY_LOG_ENABLED": "false",
        "INFLUXDB_MONITOR_STORE_ENABLED": "false",
        "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{port}",
        "INFLUXDB_HTTP_AUTH_ENABLED": "true",
        "INFLUXDB_HTTP_FLUX_ENABLED": "true",
        "INFLUXDB_HTTP_LOG_ENABLED": "false",
    }
    return [str(program), "-config", "/dev/null"], environment


def _command_2(program: Path, home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return how 2.9 is started: everything by argument."""
    places = [
        *("--bolt-path", f"{home}/influxd.bolt"),
        *("--sqlite-path", f"{home}/influxd.sqlite"),
        *("--engine-path", f"{home}/engine"),
        *("--http-bind-address", f"127.0.0.1:{port}"),
    ]
    return [str(program), *places, "--reporting-disabled", "--log-level", "error"], {}
