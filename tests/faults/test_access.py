"""A store that does not let us in: everything waits, says why, and is booked once it may."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import httpx
import pytest

from demo.processes import wait_for
from tests.faults.books import Books
from tests.faults.conftest import HostMaker
from tests.faults.host import Host, delivering_to
from tests.faults.sidecar import Sidecar, scheduler
from tests.faults.traffic import Bill, an_answer, pass_a_moment, pouring, send_answers
from tests.support.services.influx import InfluxServer

pytestmark = pytest.mark.service
Grant = Callable[[InfluxServer, str], str]
_GRANTS: dict[str, Grant] = {
    "empty": lambda server, bucket: "",
    "wrong": lambda server, bucket: "nobody:nothing",
    "read-only": lambda server, bucket: server.token_for(bucket, "read"),
    "of another bucket": lambda server, bucket: server.token_for(server.bucket().bucket, "write"),
}


@pytest.mark.parametrize("influx", ["2.9", "1.8"], indirect=True)
def test_it_keeps_everything_until_the_token_may_write(
    random: Random, make_host: HostMaker, influx: InfluxServer, books: Books
) -> None:
    good = influx.token_for(books.bucket, "write")
    environment = delivering_to(influx.settings(books.bucket, good))
    host = make_host(environment)
    bill = Bill()
    for name, grant in _GRANTS.items():
        host.kill()
        host.start(INFLUXDB_TOKEN=grant(influx, books.bucket))
        with pouring(host.url, 100, random) as traffic:
            pass_a_moment(random, 0.3, 0.6)
        bill.add(traffic.bill)
        if name != "empty":
            wait_for(lambda: _is_misconfigured(host), f"{name} to be noticed", 60)
        assert traffic.bill.promised
        assert host.waiting() == len(traffic.bill.sent), name
        host.kill()
        host.start(INFLUXDB_TOKEN=good)
        books.settle(bill, lambda: host.waiting() == 0)


def test_it_goes_on_with_a_new_token_when_the_old_one_is_revoked(
    rounds: range, random: Random, host: Host, influx: InfluxServer, books: Books
) -> None:
    bill = Bill()
    for _ in rounds:
        with pouring(host.url, 100, random) as traffic:
            pass_a_moment(random, 0.1, 0.6)
            _revoke_all_but_the_operators(influx)
            wait_for(lambda: _is_misconfigured(host), "the revoked token to be noticed", 60)
            host.set_valves(influxdb_token=influx.token_for(books.bucket, "write"))
        bill.add(traffic.bill)
        books.settle(bill, lambda: host.waiting() == 0)
        host.forget_log()


@pytest.mark.parametrize("influx", ["2.9", "1.8"], indirect=True)
def test_it_keeps_everything_while_the_database_is_gone(
    random: Random, make_host: HostMaker, influx: InfluxServer, books: Books
) -> None:
    host = make_host(delivering_to(influx.settings(books.bucket)))
    with pouring(host.url, 100, random) as before:
        pass_a_moment(random, 0.3, 0.6)
    books.settle(before.bill, lambda: host.waiting() == 0)
    influx.drop(books.bucket)
    with pouring(host.url, 100, random) as traffic:
        pass_a_moment(random, 0.3, 0.6)
        wait_for(lambda: _is_misconfigured(host), "the missing database to be noticed", 60)
    assert traffic.bill.promised
    influx.bucket(name=books.bucket)
    host.kill()
    host.start()
    # What the dropped database held went with it; what came since is all there.
    books.settle(traffic.bill, lambda: host.waiting() == 0)


def _is_misconfigured(host: Host) -> bool:
    return "is misconfigured" in host.log()


def _revoke_all_but_the_operators(influx: InfluxServer) -> None:
    headers = {"Authorization": f"Token {influx.token}"}
    for each in influx.api_get("authorizations")["authorizations"]:
        if each["description"] == "a test's":
            url = f"{influx.url}/api/v2/authorizations/{each['id']}"
            httpx.delete(url, headers=headers).raise_for_status()


def test_its_summaries_survive_an_emptied_bucket(
    random: Random, host: Host, influx: InfluxServer, books: Books, tmp_path: Path
) -> None:
    settings = influx.settings(books.bucket)
    sidecar = Sidecar(tmp_path, delivering_to(settings, USAGE_SPOOL_DIR=str(host.spool.parent)))
    bill = send_answers(host.url, [an_answer(random) for _ in range(200)])
    books.settle(bill, lambda: host.waiting() == 0)
    today = datetime.now(UTC).date()
    days = (f"--from={today - timedelta(days=1)}", f"--to={today + timedelta(days=1)}")
    scheduler(sidecar.environment, "project", *days)
    assert sidecar.booked_usd() == sum(bill.sent.values())
    _empty(influx, books.bucket)
    assert books.points() == []
    said = scheduler(sidecar.environment, "project", *days, is_refused=True)
    assert "200 events" in said
    assert sidecar.booked_usd() == sum(bill.sent.values())
    # What comes in afterwards makes the day no smaller than it was known to be, and no larger.
    later = send_answers(host.url, [an_answer(random) for _ in range(20)])
    books.settle(later, lambda: host.waiting() == 0)
    scheduler(sidecar.environment, "project", *days, is_refused=True)
    assert sidecar.booked_usd() == sum(bill.sent.values())


def _empty(influx: InfluxServer, bucket: str) -> None:
    deleted = httpx.post(
        f"{influx.url}/api/v2/delete",
        params={"org": influx.org, "bucket": bucket},
        headers={"Authorization": f"Token {influx.token}"},
        json={
            "start": "1970-01-01T00:00:00Z",
            "stop": "2100-01-01T00:00:00Z",
            "predicate": '_measurement="usage_events"',
        },
    )
    deleted.raise_for_status()
