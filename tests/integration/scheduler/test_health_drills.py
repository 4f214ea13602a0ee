"""Drills on real things by the real clock: what breaks is named within a minute, then forgotten.

A sidecar process, a Pipelines server with the plugin, and InfluxDB 2.9.1.
"""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.conftest import needs_host
from tests.host.plugin import PLUGIN
from tests.host.servers import PLUGIN_ID, PipelinesServer
from tests.support.jumping_clock import JumpingClock
from tests.support.services.influx import InfluxServer, influx_program, start
from tests.support.sidecar_process import SidecarProcess
from tests.support.sidecars import WEBHOOK_TOKEN
from tests.support.waiting import wait_for

pytestmark = pytest.mark.service
_MINUTE = 60.0
_HOUR = 3600.0


class Scene:
    """Everything that an admin runs, in one folder."""

    def __init__(self, home: Path) -> None:
        needs_host("pipelines-current")
        influx_program("2.9")
        for name in ("influx", "host", "spool"):
            (home / name).mkdir()
        self.home = home
        self.clock = JumpingClock(home)
        self.influx: InfluxServer = start("2.9", home / "influx")
        self.bucket = self.influx.bucket().bucket
        self.host = PipelinesServer("pipelines-current", home / "host")
        self.start_host()
        self.host.upload()
        self.sidecar = self._made_sidecar()

    def start_host(self) -> None:
        """Start the Pipelines server with what its folder holds."""
        self.host.start(USAGE_SPOOL_DIR=str(self.home / "spool"), USAGE_DELIVER_FROM="sidecar")

    def start_sidecar_again(self) -> None:
        """Start the sidecar with a new token, as an admin does after one was revoked."""
        self.sidecar.end(signal.SIGTERM)
        self.sidecar = self._made_sidecar()

    def await_problem(self, name: str, words: str) -> None:
        """Wait for a cause under its name, for a minute at most."""
        wait_for(lambda: words in self.sidecar.problems().get(name, ""), seconds=_MINUTE)

    def await_ready(self) -> None:
        """Wait until nothing is wrong any more."""
        wait_for(lambda: not self.sidecar.problems(), seconds=2 * _MINUTE)

    def await_schedule(self) -> None:
        """Wait until deliveries and projections go on."""
        before = datetime.now(UTC)
        for name in ("last_delivery", "last_projection"):
            wait_for(partial(self._is_after, name, before), seconds=_MINUTE)

    def _is_after(self, name: str, before: datetime) -> bool:
        said = self.sidecar.client.get("/ready").json()[name]
        return said is not None and before < datetime.fromisoformat(said) < datetime.now(UTC)

    def end(self) -> None:
        """End what was begun."""
        self.sidecar.client.close()
        self.sidecar.kill()
        self.host.client.close()
        self.host.stop()
        self.influx.stop()
        self.clock.close()

    def _made_sidecar(self) -> SidecarProcess:
        made = SidecarProcess(
            self.home,
            "sidecar",
            {
                "INFLUXDB_FIRST_ENABLED": "true",
                "INFLUXDB_URL": self.influx.url,
                "INFLUXDB_ORG": self.influx.org,
                "INFLUXDB_BUCKET": self.bucket,
                "INFLUXDB_TOKEN": self.influx.token_for(self.bucket, "read", "write"),
                "USAGE_SPOOL_MAX_MB": "1",
                **self.clock.environment,
            },
        )
        made.wait_until_ready()
        return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("drills"))
    yield scene
    scene.end()


@pytest.fixture
def scene(whole: Scene) -> Scene:
    """A scene in which nothing is wrong."""
    whole.await_ready()
    return whole


def test_a_store_that_is_down(scene: Scene) -> None:
    scene.influx.kill()
    scene.await_problem("store", "the event store cannot be used")
    scene.influx.launch()
    scene.await_ready()


def test_a_spool_that_is_full(scene: Scene) -> None:
    scene.influx.kill()
    numbers = iter(range(1_000_000))
    poster = httpx.Client(
        base_url=scene.sidecar.client.base_url,
        headers={"Authorization": f"Bearer {WEBHOOK_TOKEN}"},
        timeout=60,
        trust_env=False,
    )
    with poster:
        while (answer := poster.post("/webhook/openrouter-usage", json=broadcast(numbers))) and (
            answer.status_code == 200
        ):
            pass
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "spool_full")
    scene.await_problem("spool_full", "webhook.sqlite3 is")
    scene.influx.launch()
    scene.await_ready()


def broadcast(numbers: Iterator[int]) -> dict[str, object]:
    """Return a hundred generations as OpenRouter's Broadcast sends them."""
    now = int(time.time())
    spans = [
        {
            "attributes": [
                {"key": key, "value": {"stringValue": value}}
                for key, value in (
                    ("gen_ai.response.id", f"gen-{now}-{next(numbers):020d}"),
                    ("gen_ai.response.model", "openai/gpt-5-mini"),
                    ("gen_ai.usage.total_cost", "0.000001"),
                )
            ]
        }
        for _ in range(100)
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def test_a_host_that_runs_on_without_the_plugin(scene: Scene) -> None:
    scene.host.kill()
    (scene.host.pipelines_dir / f"{PLUGIN_ID}.py").unlink()
    scene.start_host()
    assert PLUGIN_ID not in [each["id"] for each in scene.host.listed()]
    scene.await_problem("hosts", "is silent for")
    scene.host.upload(PLUGIN.read_text())
    scene.await_ready()


def test_a_clock_that_is_off(scene: Scene) -> None:
    for seconds in (_HOUR, -_HOUR):
        scene.clock.jump_to(seconds)
        scene.await_problem("clock", f"this machine's clock was set by {seconds:.0f} s")
        scene.clock.jump_to(0)
        scene.await_ready()
        scene.await_schedule()


def test_a_token_that_was_revoked(scene: Scene) -> None:
    [revoked] = [
        each["id"]
        for each in scene.influx.api_get("authorizations")["authorizations"]
        if each["permissions"][0]["resource"].get("name") == scene.bucket
    ]
    url = f"{scene.influx.url}/api/v2/authorizations/{revoked}"
    httpx.delete(url, headers={"Authorization": f"Token {scene.influx.token}"}).raise_for_status()
    scene.await_problem("store", "401")
    scene.await_problem("delivery", "misconfigured: 401")
    scene.start_sidecar_again()
    scene.await_ready()
