"""The event stores that must keep the contract, each fresh and empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.adapters.embedded_store import EmbeddedStore
from shared.adapters.influx_read import InfluxStore
from shared.ports import EventStore
from tests.services.influx import Version, influx_server

STORES = [
    "embedded",
    pytest.param("1.8", marks=pytest.mark.service, id="influxdb-1.8"),
    pytest.param("2.9", marks=pytest.mark.service, id="influxdb-2.9"),
]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    """An empty event store of each kind."""
    if request.param == "embedded":
        embedded = EmbeddedStore(tmp_path / "events.sqlite3")
        yield embedded
        embedded.close()
        return
    version: Version = request.param
    server = influx_server(version)
    settings = server.bucket()
    influx = InfluxStore(settings)
    yield influx
    influx.close()
    server.drop(settings.bucket)
