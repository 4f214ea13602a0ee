"""Full disks: of the spool, where events are refused and counted, and of InfluxDB: they wait."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from subprocess import run

import pytest

from demo.processes import wait_for
from tests.conftest import missing
from tests.faults.books import Books, influx_books
from tests.faults.conftest import HostMaker
from tests.faults.host import Host, delivering_to
from tests.faults.traffic import NEVER_REPEATED, Bill, pass_a_moment, pouring
from tests.support.services.influx import start

pytestmark = pytest.mark.service
# Nothing beyond this place in a file can be written: the spool's log is rewritten from its start.
_FULL_AT_BYTES = 32 * 1024
_DISK_MB = 64


def test_it_counts_what_a_full_disk_refuses_and_books_the_rest(
    rounds: range, random: Random, host: Host, books: Books
) -> None:
    bill, sure = Bill(), Bill()
    for _ in rounds:
        with pouring(host.url, 200, random, NEVER_REPEATED) as before:
            pass_a_moment(random, 0.1, 0.5)
        sure.add(before.bill)
        with pouring(host.url, 200, random, NEVER_REPEATED) as traffic:
            pass_a_moment(random, 0.0, 0.3)
            host.limit_files(_FULL_AT_BYTES)
            pass_a_moment(random, 0.2, 0.8)
            host.limit_files(None)
            pass_a_moment(random, 0.0, 0.3)
        bill.add(traffic.bill)
        # The disk has room again: the same process goes on by itself.
        with pouring(host.url, 200, random, NEVER_REPEATED) as after:
            pass_a_moment(random, 0.1, 0.5)
        sure.add(after.bill)
        wait_for(lambda: sure.promised <= {each for each, _ in books.points()}, "the rest", 120)
        wait_for(lambda: host.waiting() == 0, "an empty spool", 120)
    booked = {request_id for request_id, _ in books.points()}
    refused = len(bill.sent) - len(bill.sent.keys() & booked)
    bill.promised &= booked
    bill.add(sure)
    books.compare(bill)
    host.stop()
    counters = host.counters()
    assert 0 < refused <= counters["not_spooled"] + counters.get("overrun", 0)
    assert counters["not_spooled"] <= refused


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that a test can fill; where none can be mounted, the test has to be done without."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or run(mount, capture_output=True, check=False).returncode != 0:
        missing("a small disk", "run as root, where tmpfs can be mounted")
    yield folder
    run(["umount", "-l", folder], check=True)


def test_it_books_every_event_once_when_the_disk_of_influxdb_was_full(
    rounds: range, random: Random, make_host: HostMaker, small_disk: Path
) -> None:
    influx = start("2.9", small_disk)
    ballast = small_disk / "ballast"
    try:
        host = make_host(delivering_to(influx.bucket()))
        for _ in rounds:
            # A new bucket each time. What InfluxDB takes after the restart it appends behind the
            # torn end of its log, and forgets it should it be killed once more.
            books = influx_books(influx, influx.bucket().bucket)
            host.set_valves(influxdb_bucket=books.bucket)
            with pouring(host.url, 100, random) as traffic:
                pass_a_moment(random, 0.2, 0.8)
                _fill(ballast)
                pass_a_moment(random, 1.0, 2.0)
                # It answers 500 to every write until somebody makes room and restarts it.
                influx.kill()
                ballast.unlink()
                influx.launch()
            books.settle(traffic.bill, lambda: host.waiting() == 0)
            assert host.put_aside("dead") == 0
    finally:
        influx.stop()


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
