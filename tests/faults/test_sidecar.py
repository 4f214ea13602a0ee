"""A sidecar killed while it drains and projects: events once, summaries to the last digit."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from tests.faults.books import Books, embedded_books, influx_books
from tests.faults.conftest import HostMaker
from tests.faults.host import delivering_to, let_lease_run_out
from tests.faults.sidecar import Sidecar, scheduler
from tests.faults.traffic import Bill, pass_a_moment, pouring
from tests.support.services.influx import InfluxServer

pytestmark = pytest.mark.service


@pytest.fixture
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
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
    print(running.log())  # pytest shows it when the test failed


@pytest.fixture
def books(request: pytest.FixtureRequest, environment: dict[str, str], sidecar: Sidecar) -> Books:
    """The store that the sidecar fills."""
    if bucket := environment.get("INFLUXDB_BUCKET"):
        return influx_books(request.getfixturevalue("influx"), bucket)
    return embedded_books(Path(sidecar.environment["USAGE_STORE_PATH"]))


@pytest.mark.parametrize(
    ("environment", "per_second"),
    [("embedded", 200), ("influxdb", 20), ("influxdb", 200)],
    indirect=["environment"],
)
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
    today = datetime.now(UTC).date()
    days = (f"--from={today - timedelta(days=1)}", f"--to={today + timedelta(days=1)}")
    scheduler(sidecar.environment, "project", *days)
    assert "agree" in scheduler(sidecar.environment, "verify", *days)
    stored = {request_id for request_id, _ in books.points()}
    assert sidecar.booked_usd() == sum(bill.sent[request_id] for request_id in stored)
