"""The API keeps what its OpenAPI document says, whatever is sent to it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.core.rows import HostRow
from shared.projection.run_report import RunReport
from shared.spool.sqlite_spool import SqliteSpool
from tests.support.builders import BOB, generation_id, settled, unmetered
from tests.support.sidecars import TOKEN, USER_TOKEN, WEBHOOK_TOKEN, SidecarAtHand

HOOK, MONTHS = "/webhook/openrouter-usage", "/api/v1/user/months"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarAtHand]:
    # `ignored_auth` sends a wrong token to every route: more of them than a minute allows.
    found = SidecarAtHand(tmp_path_factory.mktemp("api"), usage_failures_per_minute=10_000)
    found.book([settled(), settled(request_id=generation_id(2), external_user=BOB), unmetered()])
    now = found.clock.now()
    spool = SqliteSpool(found.sidecar.settings.usage_spool_dir / "function.sqlite3")
    host = HostRow(
        host_id="function-1",
        host_kind="function",
        occurred_at=now,
        started_at=now - timedelta(hours=1),
        version="1",
    )
    spool.put([host]).result(20)
    spool.close()
    for job in ("drain", "refresh"):
        found.sidecar.run_job(job)
    # What a batch does is another test's; ten years of days take a while.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(found.sidecar.recompute_queue, "_project", lambda *_: RunReport())
    assert found.stranger.get("/ready").status_code == 200
    yield found
    monkeypatch.undo()
    found.close()


@pytest.mark.parametrize(
    ("token", "which"),
    [
        (TOKEN, [f"--exclude-path={HOOK}", f"--exclude-path={MONTHS}"]),
        (WEBHOOK_TOKEN, [f"--include-path={HOOK}"]),
        (USER_TOKEN, [f"--include-path={MONTHS}"]),
    ],
    ids=["admin", "webhook", "user"],
)
def test_no_request_makes_the_api_break_its_word(
    desk: SidecarAtHand, tmp_path: Path, token: str, which: list[str]
) -> None:
    options = ["--checks=all", "--max-examples=3", "--seed=1", "--no-color"]
    header = ["-H", f"Authorization: Bearer {token}"]
    program = Path(sys.executable).with_name("schemathesis")
    ran = subprocess.run(
        [program, "run", f"{desk.url}/openapi.json", *which, *options, *header],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr


def test_a_connection_that_is_kept_is_answered_at_once(desk: SidecarAtHand) -> None:
    def seconds() -> float:
        begun = time.perf_counter()
        desk.stranger.get("/health").raise_for_status()
        return time.perf_counter() - begun

    # A head and a body that wait for each other take the 40 ms of a delayed acknowledgement.
    assert min(seconds() for _ in range(20)) < 0.03
