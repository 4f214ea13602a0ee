"""What the fault tests share: how often, by which chance, and the servers that suffer."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.books import Books, influx_books
from tests.faults.host import Host, delivering_to
from tests.support.services.influx import InfluxServer, start

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "5"))
SEED = os.environ.get("FAULT_SEED", os.urandom(4).hex())
HostMaker = Callable[..., Host]


def pytest_report_header() -> str:
    """Say how to meet the same chances again."""
    return f"faults: {ROUNDS} rounds, FAULT_SEED={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the one that waits a minute and more, while others work."""
    items.sort(key=lambda item: "breaker" not in item.name)


@pytest.fixture
def rounds() -> range:
    """How often every fault strikes: FAULT_ROUNDS."""
    return range(ROUNDS)


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Chance, another one for each test, all from FAULT_SEED."""
    return Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="session")
def old_influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    """The one InfluxDB 1.8 of this run: it takes seconds to start, and comes back when killed."""
    server = start("1.8", tmp_path_factory.mktemp("influx-1.8"))
    yield server
    server.stop()


@pytest.fixture
def influx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InfluxServer]:
    """An InfluxDB of the test's own; 2.9 unless the test asks for another version."""
    if getattr(request, "param", "2.9") == "1.8":
        yield request.getfixturevalue("old_influx")
        return
    home = tmp_path / "influx"
    home.mkdir()
    server = start("2.9", home)
    yield server
    server.stop()


@pytest.fixture
def books(influx: InfluxServer) -> Books:
    """An empty bucket."""
    return influx_books(influx, influx.bucket().bucket)


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[HostMaker]:
    """Start hosts with the plugin; all of them end with the test."""
    hosts: list[Host] = []

    def make(environment: dict[str, str]) -> Host:
        folder = tmp_path / f"host-{len(hosts)}"
        folder.mkdir()
        host = Host(folder, environment)
        hosts.append(host)
        host.start()
        return host

    yield make
    for host in hosts:
        host.stop()
        print(host.log())  # pytest shows it when the test failed
        shutil.rmtree(host.folder, ignore_errors=True)


@pytest.fixture
def host(make_host: HostMaker, influx: InfluxServer, books: Books) -> Host:
    """A host that delivers to the bucket by itself."""
    token = influx.token_for(books.bucket, "write")
    return make_host(delivering_to(influx.settings(books.bucket, token)))
