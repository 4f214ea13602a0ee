"""A sidecar for tests: everything real, on a temporary folder, at a time that is set by hand."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from scheduler.api.app import create_app
from scheduler.api.server import ApiServer
from scheduler.process.running import RunningSidecar
from shared.core.rows import Row
from shared.settings import Settings
from shared.spool.sqlite_spool import SqliteSpool
from tests.support.builders import NOON
from tests.support.spools import SetClock

ADMIN = "/api/v1/admin/usage"
TOKEN, WEBHOOK_TOKEN = "admin-token-0123456789", "webhook-token-0123456789"
USER_TOKEN = "user-token-0123456789"


def sidecar_settings(folder: Path, **changed: Any) -> Settings:
    """Return settings with all tokens and everything below a folder."""
    defaults: dict[str, Any] = {
        "usage_admin_token": TOKEN,
        "usage_webhook_token": WEBHOOK_TOKEN,
        "usage_user_token": USER_TOKEN,
        "usage_spool_dir": folder / "spool",
        "usage_store_path": folder / "events.sqlite3",
        "usage_database_url": f"sqlite:///{folder / 'summaries.sqlite3'}",
    }
    return Settings(**(defaults | changed))


class SidecarAtHand:
    """A sidecar without schedule: a test runs its jobs and speaks to its API."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        self.clock = SetClock()
        self.clock_set_by = 0.0
        self.sidecar = RunningSidecar(sidecar_settings(folder, **changed), self.clock)
        self.sidecar.try_lead()
        self.server = ApiServer(create_app(self.sidecar, self._steady), "127.0.0.1", 0)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.port}"
        self.client = self.visitor(TOKEN)
        self.poster = self.visitor(WEBHOOK_TOKEN)
        self.stranger = self.visitor(None)

    def visitor(self, token: str | None) -> httpx.Client:
        """Return a client that shows a token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def book(self, rows: Iterable[Row], host: str = "function") -> None:
        """Let a host spool rows, deliver them and project their days."""
        spool = SqliteSpool(
            self.sidecar.settings.usage_spool_dir / f"{host}.sqlite3", clock=self.clock
        )
        spool.put(list(rows)).result(20)
        spool.close()
        self.work()

    def _steady(self) -> float:
        return (self.clock.now() - NOON).total_seconds() - self.clock_set_by

    def work(self) -> None:
        """Deliver and project, as the schedule would."""
        self.sidecar.drain()
        self.sidecar.refresh(45)

    def close(self) -> None:
        """Close the clients and the sidecar."""
        for client in (self.client, self.poster, self.stranger):
            client.close()
        self.server.stop()
        self.sidecar.close()
