"""A real sidecar on the books of a stage: it projects what the stage has collected."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGTERM
from typing import Any

from demo.processes import wait_for
from tests.support.sidecar_process import SidecarProcess
from tests.support.sidecars import ADMIN, TOKEN, USER_TOKEN

_PROJECTED_WITHIN_SECONDS = 60.0


class RunningLedger:
    """What a sidecar says of users, by its own routes."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self._client = sidecar.client
        self.url = str(sidecar.client.base_url).rstrip("/")

    def month(self, user_id: str) -> dict[str, Any]:
        """Return this month of a user, as the route for users has it."""
        found = self._get("/api/v1/user/months", USER_TOKEN, external_user=user_id)
        month: dict[str, Any] = found["months"][0]
        return month

    def admins_cost(self, user_id: str) -> str:
        """Return what a user has cost by the admin's API; nothing here is older than a day."""
        today = datetime.now(UTC).date()
        found = self._get(
            f"{ADMIN}/summaries",
            TOKEN,
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
    sidecar = SidecarProcess(folder, "sidecar", {"USAGE_USER_TOKEN": USER_TOKEN})
    try:
        sidecar.wait_until_ready()
        yield RunningLedger(sidecar)
        sidecar.end(SIGTERM)
    finally:
        sidecar.kill()
