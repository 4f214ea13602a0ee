"""A host that is set to deliver does so by itself; another one never holds a connection."""

import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.host.bodies import generation_id, last_chunk, metadata
from tests.host.plugin import events, load_as_function, running, session
from tests.host.servers import wait_for


class Influx:
    """An InfluxDB that takes everything and keeps the lines."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("/")
        self.lines: list[str] = []
        server.expect_request("/api/v2/write", method="POST").respond_with_handler(self._take)
        server.expect_request("/query").respond_with_json({"results": [{"statement_id": 0}]})

    def _take(self, request: Request) -> Response:
        self.lines += request.get_data(as_text=True).splitlines()
        return Response(status=204)

    def measurements(self) -> set[str]:
        return {line.split(",")[0] for line in self.lines}


@pytest.fixture
def influx(httpserver: HTTPServer) -> Influx:
    return Influx(httpserver)


def valves(influx: Influx, spool_dir: Path, **more: Any) -> dict[str, Any]:
    return {
        "spool_dir": str(spool_dir),
        "influxdb_first_enabled": True,
        "influxdb_url": influx.url,
        "influxdb_token": "token",
        "influxdb_org": "acme",
        "influxdb_bucket": "usage",
    } | more


async def test_an_event_reaches_the_store_and_leaves_the_spool(
    influx: Influx, tmp_path: Path
) -> None:
    with running(load_as_function(), "Filter", **valves(influx, tmp_path)) as plugin:
        await plugin.stream(last_chunk(), __metadata__=metadata())
        wait_for(
            lambda: "usage_events" in influx.measurements() and not plugin.status().spool.queued
        )
        assert plugin.status().delivery.state == "idle"
    assert len([line for line in influx.lines if generation_id() in line]) == 1


async def test_a_host_that_leaves_delivery_to_the_sidecar_only_spools(
    influx: Influx, tmp_path: Path
) -> None:
    changed = valves(influx, tmp_path, deliver_from="sidecar")
    with running(load_as_function(), "Filter", **changed) as plugin:
        await plugin.stream(last_chunk(), __metadata__=metadata())
        assert session(plugin).heartbeat().delivery_state == "spooling"
        assert len(events(plugin)) == 1
    assert influx.lines == []


async def test_without_influxdb_client_the_events_wait_and_the_status_says_what_to_install(
    influx: Influx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("influxdb_client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "influxdb_client", None)
    with running(load_as_function(), "Filter", **valves(influx, tmp_path)) as plugin:
        await plugin.stream(last_chunk(), __metadata__=metadata())
        wait_for(lambda: plugin.status().delivery.state == "misconfigured")
        assert "pip install influxdb-client" in plugin.status().message
        assert len(events(plugin)) == 1
    assert influx.lines == []
