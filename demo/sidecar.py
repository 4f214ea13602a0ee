"""The sidecar as an admin runs it: a process of its own, its settings from the environment."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import run

from demo.installation import ROOT
from demo.processes import Server

STORE_FILE, SUMMARIES_FILE = "usage-events.sqlite3", "usage-summaries.sqlite3"


def sidecar_environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return settings that keep all files in a folder and project every second.

    `settings` are added and override them.
    """
    return {
        "USAGE_SPOOL_DIR": str(folder / "spool"),
        "USAGE_STORE_PATH": str(folder / STORE_FILE),
        "USAGE_DATABASE_URL": f"sqlite:///{folder / SUMMARIES_FILE}",
        "USAGE_REFRESH_SECONDS": "1",
        **settings,
    }


def sidecar_server(folder: Path, environment: Mapping[str, str]) -> Server:
    """Return a sidecar that is not started yet; `environment` must have `USAGE_PORT`."""
    return Server(
        "sidecar",
        [sys.executable, "-m", "scheduler", "run"],
        port=int(environment["USAGE_PORT"]),
        folder=folder,
        environment={"PYTHONPATH": str(ROOT), **environment},
    )


def run_scheduler(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Run a command of the sidecar as an operator would; return its exit code and output."""
    done = run(
        [sys.executable, "-m", "scheduler", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip()
