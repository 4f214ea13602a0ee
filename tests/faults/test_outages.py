"""A store that hangs or whose acknowledgements get lost: sent again, and booked once."""

from dataclasses import replace
from random import Random

import pytest

from demo.processes import wait_for
from tests.faults.books import Books
from tests.faults.conftest import HostMaker
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.host import Host, delivering_to
from tests.faults.traffic import Bill, pass_a_moment, pouring
from tests.support.services.influx import InfluxServer

pytestmark = pytest.mark.service
# Three deliveries of five attempts: their waits alone are 45 s, and up to a quarter more.
_BREAKER_OPENS_SECONDS = 120


def test_it_books_every_event_once_when_influxdb_hangs_beyond_every_timeout(
    rounds: range, random: Random, host: Host, influx: InfluxServer, books: Books
) -> None:
    bill = Bill()
    for _ in rounds:
        with pouring(host.url, 100, random) as traffic:
            pass_a_moment(random, 0.1, 0.6)
            influx.pause()
            # The write timeout is half a second; what was asked meanwhile is done afterwards.
            pass_a_moment(random, 1.0, 2.0)
            influx.resume()
        bill.add(traffic.bill)
        books.settle(bill, lambda: host.waiting() == 0)


def test_it_books_every_event_once_after_the_breaker_was_open(
    random: Random, host: Host, influx: InfluxServer, books: Books
) -> None:
    influx.pause()
    with pouring(host.url, 20, random) as traffic:
        wait_for(lambda: "breaker_open" in host.log(), "the breaker", _BREAKER_OPENS_SECONDS)
        influx.resume()
    books.settle(traffic.bill, lambda: host.waiting() == 0, seconds=60)


@pytest.mark.parametrize("influx", ["2.9", "1.8"], indirect=True)
def test_it_books_every_event_once_when_acknowledgements_are_lost(
    rounds: range, random: Random, make_host: HostMaker, influx: InfluxServer, books: Books
) -> None:
    settings = influx.settings(books.bucket, influx.token_for(books.bucket, "write"))
    bill = Bill()
    with CuttingProxy(influx.url, random) as proxy:
        host = make_host(delivering_to(replace(settings, url=proxy.url)))
        for _ in rounds:
            proxy.cut_chance = 0.7
            with pouring(host.url, 200, random) as traffic:
                pass_a_moment(random, 0.5, 1.5)
            proxy.cut_chance = 0.0
            bill.add(traffic.bill)
            books.settle(bill, lambda: host.waiting() == 0)
    assert proxy.cuts >= len(rounds)
