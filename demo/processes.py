"""Server processes on free ports of 127.0.0.1, with a log, ended by their pid."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

_END_SECONDS = 15.0


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Poll until the condition holds; raises TimeoutError with `what` in its message."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)


class Server:
    """A running server process: its address, its log, and how to end it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = folder / f"{name}.log"
        self._command = list(command)
        self._folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int:
        """The pid; raises RuntimeError when the process does not run."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start the process; the log is appended to that of an earlier run."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self, path: str, seconds: float = 90.0) -> None:
        """Wait until the server answers 200; raises RuntimeError with the log when it has ended."""
        wait_for(lambda: self._answers(path), f"{self.name} at {self.url}{path}", seconds)

    def wait_until_logged(self, words: str, times: int, seconds: float) -> None:
        """Wait until the log has these words this many times."""
        wait_for(
            lambda: self.log_path.read_text(errors="replace").count(words) >= times,
            f"{times} x {words!r} in {self.log_path}",
            seconds,
        )

    def stop(self) -> None:
        """End the process and its workers by SIGTERM, then by SIGKILL."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and its workers as a power cut would."""
        self._end(signal.SIGKILL)

    def log_tail(self, lines: int = 40) -> str:
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def processes_holding(self, path: Path) -> list[int]:
        """List the processes of this server that have a file open (Linux)."""
        return [
            process_id
            for process_id in (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
            if self._is_ours(process_id) and path in _open_files(process_id)
        ]

    def _is_ours(self, process_id: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            return self._process is not None and os.getpgid(process_id) == self._process.pid
        return False

    def _answers(self, path: str) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.name} has ended:\n{self.log_tail()}")
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.url + path, timeout=5, trust_env=False).status_code == 200
        return False

    def _end(self, first_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The session is our own: its group holds this server and its workers, nothing else.
        for how in (first_signal, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
                return


def _open_files(process_id: int) -> set[Path]:
    found = set()
    for link in Path(f"/proc/{process_id}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(link.readlink())
    return found
