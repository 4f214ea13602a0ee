"""Kill -9 at random moments while events pour in: nothing promised is lost, nothing is double."""

from random import Random

import pytest

from tests.faults.books import Books
from tests.faults.host import Host
from tests.faults.traffic import Bill, pass_a_moment, pouring
from tests.support.services.influx import InfluxServer

pytestmark = pytest.mark.service
RATES = pytest.mark.parametrize("per_second", [20, 200])
# 1.8 takes many seconds to come back: it is killed in every fifth round only.
SERVERS = pytest.mark.parametrize(
    ("influx", "per_second", "one_in"),
    [("2.9", 20, 1), ("2.9", 200, 1), ("1.8", 200, 5)],
    indirect=["influx"],
)


@RATES
def test_it_books_every_event_once_when_the_host_is_killed(
    rounds: range, random: Random, host: Host, books: Books, per_second: int
) -> None:
    bill = Bill()
    for _ in rounds:
        with pouring(host.url, per_second, random) as traffic:
            pass_a_moment(random, 0.1, 1.2)
            host.kill()
            host.start()
            pass_a_moment(random, 0.1, 0.5)
        bill.add(traffic.bill)
        books.settle(bill, lambda: host.waiting() == 0)


@SERVERS
def test_it_books_every_event_once_when_influxdb_is_killed(
    rounds: range,
    random: Random,
    host: Host,
    influx: InfluxServer,
    books: Books,
    per_second: int,
    one_in: int,
) -> None:
    bill = Bill()
    for _ in rounds[::one_in]:
        with pouring(host.url, per_second, random) as traffic:
            pass_a_moment(random, 0.1, 1.2)
            influx.kill()
            pass_a_moment(random, 0.0, 1.0)
            influx.launch()
            pass_a_moment(random, 0.1, 0.5)
        bill.add(traffic.bill)
        books.settle(bill, lambda: host.waiting() == 0)


def test_it_books_every_event_once_when_the_plugin_is_uploaded_again_under_load(
    rounds: range, random: Random, host: Host, books: Books
) -> None:
    bill = Bill()
    for _ in rounds:
        with pouring(host.url, 200, random) as traffic:
            pass_a_moment(random, 0.1, 0.5)
            host.upload()
            if random.random() < 0.5:
                host.kill()
                host.start()
            pass_a_moment(random, 0.1, 0.3)
        bill.add(traffic.bill)
        books.settle(bill, lambda: host.waiting() == 0)
