"""The sidecar under fire, and its commands as an operator gives them."""

import os
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from subprocess import run

from demo.processes import Server, free_port
from tests.conftest import ROOT


class Sidecar:
    """`python -m scheduler run` in a folder of its own, started as often as it is ended."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._summaries = folder / "usage-summaries.sqlite3"
        self.environment = {
            "USAGE_STORE_PATH": str(folder / "usage-events.sqlite3"),
            "USAGE_DATABASE_URL": f"sqlite:///{self._summaries}",
            "USAGE_PORT": str(free_port()),
            "USAGE_REFRESH_SECONDS": "1",
            **environment,
        }
        self._server = Server(
            "sidecar",
            [sys.executable, "-m", "scheduler", "run"],
            port=0,
            folder=folder,
            environment={"PYTHONPATH": str(ROOT), **self.environment},
        )

    def start(self) -> None:
        """Start the process; it is ready when it delivers."""
        self._server.start()

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._server.kill()

    def stop(self) -> None:
        """End the process politely."""
        self._server.stop()

    def booked_usd(self) -> Decimal:
        """Return what all summaries add up to, read from their file."""
        with closing(sqlite3.connect(self._summaries)) as db:
            pico = db.execute("SELECT sum(raw_pico_usd) FROM daily_usage").fetchone()[0]
        return Decimal(pico or 0) * Decimal("1e-12")

    def log(self) -> str:
        """Return what the process printed."""
        return self._server.log_tail(200)


def scheduler(environment: Mapping[str, str], *arguments: str, is_refused: bool = False) -> str:
    """Run a command of the sidecar; return what it printed."""
    done = run(
        [sys.executable, "-m", "scheduler", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == is_refused, said
    return said
