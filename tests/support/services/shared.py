"""Servers that a run of the tests starts once, however many workers it has, and ends with it."""

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_RUN = "USAGE_TEST_RUN"
_END_SECONDS = 20
# A worker must not wait for a server that other workers still use.
_left_running: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class SharedServer:
    """A server that was started, and what its users have to know."""

    process: subprocess.Popen[bytes]
    access: dict[str, str]


def shared_server(name: str, start: Callable[[Path], SharedServer]) -> dict[str, str]:
    """Return the access to the server of this name, started in a folder by the first to ask."""
    run = Path(os.environ[_RUN])
    server, started = run / name, run / f"{name}.json"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not started.exists():
            shutil.rmtree(server, ignore_errors=True)
            server.mkdir()
            made = start(server)
            _left_running.append(made.process)
            started.write_text(json.dumps({"process": made.process.pid, "access": made.access}))
    access: dict[str, str] = json.loads(started.read_text())["access"]
    return access


def begin_run() -> None:
    """Make the folder that all workers of this run are told by the environment."""
    folder = tempfile.mkdtemp(prefix="usage-tests-")
    Path(folder).chmod(0o755)  # PostgreSQL runs as somebody else below it
    os.environ[_RUN] = folder


def end_run() -> None:
    """End what was started; each of these servers takes SIGINT for a quick and clean end."""
    run = Path(os.environ.pop(_RUN))
    for started in run.glob("*.json"):
        try:
            server = os.pidfd_open(json.loads(started.read_text())["process"])
        except ProcessLookupError:
            continue
        for how in (signal.SIGINT, signal.SIGKILL):
            signal.pidfd_send_signal(server, how)
            if select.select([server], [], [], _END_SECONDS)[0]:
                break
        os.close(server)
    shutil.rmtree(run, ignore_errors=True)
