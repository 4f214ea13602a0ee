"""The event stores that must keep the contract, each fresh and empty."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.event_store.combined.coverage import StoreCoverage
from shared.event_store.combined.store import CombinedStore
from shared.event_store.influx.store import InfluxStore
from shared.event_store.port import EventStore
from shared.event_store.sqlite.store import EmbeddedStore
from tests.support.services.influx import Version, influx_server

STORES = [
    "embedded",
    "combined",
    pytest.param("1.8", marks=pytest.mark.service, id="influxdb-1.8"),
    pytest.param("2.9", marks=pytest.mark.service, id="influxdb-2.9"),
]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    """An empty event store of each kind."""
    if request.param in ("embedded", "combined"):
        with closing(EmbeddedStore(tmp_path / "events.sqlite3")) as embedded:
            if request.param == "embedded":
                yield embedded
                return
            with (
                closing(EmbeddedStore(tmp_path / "other.sqlite3")) as other,
                closing(StoreCoverage(tmp_path / "events.sqlite3")) as coverage,
            ):
                other.name = "other"
                yield CombinedStore([other, embedded], coverage)
        return
    version: Version = request.param
    server = influx_server(version)
    settings = server.bucket()
    influx = InfluxStore(settings)
    yield influx
    influx.close()
    server.drop(settings.bucket)
