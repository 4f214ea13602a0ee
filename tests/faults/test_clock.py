"""A host whose clock jumps, forward and back: nothing lost, nothing twice, nothing stuck."""

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.books import Books
from tests.faults.conftest import HostMaker
from tests.faults.host import delivering_to
from tests.faults.sidecar import scheduler
from tests.faults.traffic import Bill, an_answer, pass_a_moment, pouring, send_answers
from tests.support.jumping_clock import JumpingClock
from tests.support.services.influx import InfluxServer

pytestmark = pytest.mark.service
_MINUTE, _DAY = 60, 86_400
# Answers carry Open WebUI's time. One that lies more than an hour ahead of the host's clock would
# be put into quarantine, so the clock goes back by less than that and forward by as much as it may.
_BACK, _FORWARD = -50 * _MINUTE, 3 * _DAY


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[JumpingClock]:
    jumping = JumpingClock(tmp_path)
    yield jumping
    jumping.close()


def test_it_books_every_event_once_while_the_clock_jumps(
    rounds: range,
    random: Random,
    clock: JumpingClock,
    make_host: HostMaker,
    influx: InfluxServer,
    books: Books,
) -> None:
    host = make_host(delivering_to(influx.settings(books.bucket), **clock.environment))
    bill = Bill()
    for number in rounds:
        with pouring(host.url, 100, random) as traffic:
            for _ in range(3):
                clock.jump_to(random.uniform(_BACK, random.choice([0, _FORWARD])))
                pass_a_moment(random, 0.1, 0.4)
            # An outage in between: the breaker's and the pause's times are of this clock too.
            influx.kill()
            clock.jump_to(random.uniform(_BACK, _FORWARD))
            pass_a_moment(random, 0.1, 0.3)
            influx.launch()
            clock.jump_to([_FORWARD, _BACK, 0][number % 3])
        bill.add(traffic.bill)
        books.settle(bill, lambda: host.waiting() == 0)
    clock.jump_to(_FORWARD)
    last = send_answers(host.url, [an_answer(random)])
    bill.add(last)
    books.settle(bill, lambda: host.waiting() == 0)
    assert host.newest_delivery_at() > time.time() + _FORWARD - _MINUTE, "the clock never jumped"


def test_it_books_an_answer_from_the_future_when_it_is_replayed(
    random: Random,
    clock: JumpingClock,
    make_host: HostMaker,
    influx: InfluxServer,
    books: Books,
) -> None:
    host = make_host(delivering_to(influx.settings(books.bucket), **clock.environment))
    clock.jump_to(-3 * 60 * _MINUTE)
    bill = send_answers(host.url, [an_answer(random) for _ in range(20)])
    assert host.put_aside("quarantined") == 20
    assert books.points() == []
    clock.jump_to(0)
    scheduler({}, "spool", "replay", str(host.spool))
    scheduler({}, "spool", "replay", str(host.spool))
    books.settle(bill, lambda: host.waiting() == 0)
