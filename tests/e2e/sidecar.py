"""A real sidecar on the books of a stage: it projects what the stage has collected."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from demo.processes import Server, free_port, wait_for
from demo.sidecar import sidecar_environment, sidecar_server

ADMIN_TOKEN, USER_TOKEN = "admin-token-of-the-stage", "user-token-of-the-stage"
_PROJECTED_WITHIN_SECONDS = 60.0


class RunningLedger:
    """What a sidecar says of users, by its own routes."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        self._client = httpx.Client(base_url=server.url, timeout=30, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def month(self, user_id: str) -> dict[str, Any]:
        """Return this month of a user, as the route for users has it."""
        found = self._get("/api/v1/user/months", USER_TOKEN, external_user=user_id)
        month: dict[str, Any] = found["months"][0]
        return month

    def admins_cost(self, user_id: str) -> str:
        """Return what a user has cost by the admin's API; nothing here is older than a day."""
        today = datetime.now(UTC).date()
        found = self._get(
            "/api/v1/admin/usage/summaries",
            ADMIN_TOKEN,
            start=str(today - timedelta(days=1)),
            end=str(today + timedelta(days=1)),
            external_user=user_id,
        )
        cost: str = found["total"]["raw_usd"]
        return cost

    def wait_for_events(self, user_id: str, events: int) -> None:
        """Wait until so many events of a user are in the summaries."""
        wait_for(
            lambda: self.month(user_id)["events"] == events,
            f"{events} events of {user_id} in the summaries",
            _PROJECTED_WITHIN_SECONDS,
        )

    def _get(self, path: str, token: str, **params: str) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        answer = self._client.get(path, params=params, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def running_ledger(folder: Path) -> Iterator[RunningLedger]:
    """Run a sidecar on the event store of a stage's folder, and end it."""
    environment = sidecar_environment(
        folder,
        USAGE_PORT=str(free_port()),
        USAGE_ADMIN_TOKEN=ADMIN_TOKEN,
        USAGE_USER_TOKEN=USER_TOKEN,
    )
    server = sidecar_server(folder, environment)
    server.start()
    try:
        server.wait_until_ready("/health")
        ledger = RunningLedger(server)
        yield ledger
        ledger.close()
    finally:
        server.stop()
