"""A sidecar killed while it drains and projects: events once, summaries to the last digit."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.books import Books, embedded_books, influx_books
from tests.faults.conftest import HostMaker
from tests.faults.host import delivering_to, let_lease_run_out
from tests.faults.sidecar import Sidecar, scheduler
from tests.faults.traffic import Bill, pass_a_moment, pouring
from tests.services.influx import InfluxServer

pytestmark = pytest.mark.service


@pytest.fixture(params=["embedded", "influxdb"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Settings of host and sidecar: the sidecar delivers, to one store or the other."""
    common = {"USAGE_DELIVER_FROM": "sidecar"}
    if request.param == "embedded":
        return common | {"INFLUXDB_FLUSH_INTERVAL": "100"}
    influx: InfluxServer = request.getfixturevalue("influx")
    return common | delivering_to(influx.bucket())


@pytest.fixture
def sidecar(tmp_path: Path, environment: dict[str, str]) -> Iterator[Sidecar]:
    folder = tmp_path / "sidecar"
    folder.mkdir()
    spool_dir = tmp_path / "host-0" / "spool"
    running = Sidecar(folder, {**environment, "USAGE_SPOOL_DIR": str(spool_dir)})
    running.start()
    yield running
    running.stop()


@pytest.fixture
def books(request: pytest.FixtureRequest, environment: dict[str, str], sidecar: Sidecar) -> Books:
    """The store that the sidecar fills."""
    if bucket := environment.get("INFLUXDB_BUCKET"):
        return influx_books(request.getfixturevalue("influx"), bucket)
    return embedded_books(Path(sidecar.environment["USAGE_STORE_PATH"]))


@pytest.mark.parametrize("per_second", [20, 200])
def test_it_books_every_event_once_when_the_sidecar_is_killed(
    rounds: range,
    random: Random,
    environment: dict[str, str],
    make_host: HostMaker,
    sidecar: Sidecar,
    books: Books,
    per_second: int,
) -> None:
    host = make_host(environment)
    bill = Bill()
    for _ in rounds:
        with pouring(host.url, per_second, random) as traffic:
            pass_a_moment(random, 0.1, 1.5)
            sidecar.kill()
            let_lease_run_out(host.spool)
            sidecar.start()
            pass_a_moment(random, 0.1, 0.5)
        bill.add(traffic.bill)
        books.settle(bill, lambda: host.waiting() == 0)
    sidecar.stop()
    days = ("--from", "2020-01-01", "--to", "2020-01-02")
    assert "agree" in scheduler(sidecar.environment, "verify", *days)
