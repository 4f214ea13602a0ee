"""A sidecar as an admin runs it: a process of its own, its settings from the environment."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx

from demo.sidecar import sidecar_environment
from shared.core.days import ONE_DAY
from tests.conftest import ROOT
from tests.support.sidecars import ADMIN, TOKEN, WEBHOOK_TOKEN
from tests.support.waiting import wait_for


class SidecarProcess:
    """`python -m scheduler` on a free port, everything it writes below a folder.

    Its schedule is quick; `environment` says what a test wants otherwise.
    """

    def __init__(self, home: Path, name: str, environment: Mapping[str, str]) -> None:
        self.log = home / f"{name}.log"
        quick = {"USAGE_STANDBY_SECONDS": "1", "INFLUXDB_FLUSH_INTERVAL": "100"}
        tokens = {"USAGE_ADMIN_TOKEN": TOKEN, "USAGE_WEBHOOK_TOKEN": WEBHOOK_TOKEN}
        program = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "USAGE_PORT": "0"}
        defaults = sidecar_environment(home, **quick, **tokens, **program)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scheduler"],
                env=defaults | dict(environment),
                stderr=log,
                cwd=home,
            )

    def wait_until_ready(self) -> None:
        """Wait for the API; its address is in the log."""
        wait_for(lambda: "API on" in self.said())
        [line] = [line for line in self.said().splitlines() if "API on" in line]
        url = line.partition("API on ")[2].partition(",")[0]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=20, trust_env=False)

    def said(self) -> str:
        """Return the log so far."""
        return self.log.read_text()

    def role(self) -> str:
        """Return the role it says it has."""
        return str(self.client.get(f"{ADMIN}/service-status").json()["role"])

    def problems(self) -> dict[str, str]:
        """Return the named causes why it is not ready; none means that the answer was 200."""
        answer = self.client.get("/ready")
        found: dict[str, str] = {}
        for each in answer.json()["problems"]:
            found[each["name"]] = f"{found.get(each['name'], '')}{each['sentence']}\n"
        assert (answer.status_code == 200) == (not found)
        return found

    def booked(self) -> int:
        """Return how many events its summaries hold."""
        today = datetime.now(UTC).date()
        params = {"start": f"{today - ONE_DAY}", "end": f"{today + ONE_DAY}"}
        found = self.client.get(f"{ADMIN}/summaries", params=params).json()
        return int(found["total"]["events"])

    def end(self, number: int) -> int:
        """Send a signal and wait for the end."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        self.client.close()
        return self.process.wait(20)

    def kill(self) -> None:
        """End it for good if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)
