"""A spool file that is damaged, or that another version wrote: kept, said, and gone on with."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from demo.processes import wait_for
from shared.spool.schema import SPOOL_MIGRATIONS
from tests.faults.books import Books
from tests.faults.host import Host
from tests.faults.traffic import Bill, an_answer, pass_a_moment, pouring, send_answers
from tests.support.spool_files import merge_log

pytestmark = pytest.mark.service
Damage = Callable[[Path, Random], None]


def _truncate(spool: Path, random: Random) -> None:
    merge_log(spool)
    with spool.open("r+b") as file:
        file.truncate(random.randrange(1, spool.stat().st_size // 2))


def _overwrite(spool: Path, random: Random) -> None:
    with spool.open("r+b") as file:
        for _ in range(20):
            file.seek(random.randrange(spool.stat().st_size))
            file.write(random.randbytes(200))


def _overwrite_header(spool: Path, random: Random) -> None:
    merge_log(spool)
    with spool.open("r+b") as file:
        file.write(random.randbytes(100))


def _lose_log(spool: Path, _: Random) -> None:
    for suffix in ("-wal", "-shm"):
        spool.with_name(spool.name + suffix).unlink(missing_ok=True)


def _damage_log(spool: Path, random: Random) -> None:
    log = spool.with_name(spool.name + "-wal")
    if log.exists() and log.stat().st_size:
        _overwrite(log, random)


DAMAGES = [_truncate, _overwrite, _overwrite_header, _lose_log, _damage_log]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_it_goes_on_and_doubles_nothing_after_the_spool_was_damaged(
    rounds: range, random: Random, host: Host, books: Books, damage: Damage
) -> None:
    bill = Bill()
    for _ in rounds[::5]:
        again = [an_answer(random) for _ in range(20)]
        bill.add(send_answers(host.url, again))
        with pouring(host.url, 200, random) as traffic:
            pass_a_moment(random, 0.2, 0.6)
        bill.add(traffic.bill)
        books.settle(bill, lambda: host.waiting() == 0)
        host.kill()
        damage(host.spool, random)
        host.start()
        # The file may no longer know that these were booked: the store takes them as the same.
        bill.add(send_answers(host.url, again))
        with pouring(host.url, 200, random) as traffic:
            pass_a_moment(random, 0.2, 0.6)
        bill.add(traffic.bill)
        books.settle(bill, lambda: host.waiting() == 0)
    if damage in (_truncate, _overwrite_header):
        assert list(host.spool.parent.glob("*.corrupt-*")), "the damaged file is kept"


def test_it_goes_on_with_the_file_of_a_newer_version_that_allows_it(
    random: Random, host: Host, books: Books
) -> None:
    bill = send_answers(host.url, [an_answer(random) for _ in range(20)])
    host.kill()
    _write_as_version_99(host.spool, min_reader=1)
    host.start()
    bill.add(send_answers(host.url, [an_answer(random) for _ in range(20)]))
    books.settle(bill, lambda: host.waiting() == 0)
    assert not list(host.spool.parent.glob("*.corrupt-*"))


def test_it_says_so_and_leaves_the_file_alone_when_only_a_newer_version_can_read_it(
    random: Random, host: Host, books: Books
) -> None:
    bill = send_answers(host.url, [an_answer(random) for _ in range(20)])
    books.settle(bill, lambda: host.waiting() == 0)
    host.kill()
    _write_as_version_99(host.spool, min_reader=99)
    host.start()
    refused = send_answers(host.url, [an_answer(random) for _ in range(20)])
    assert len(refused.promised) == 20, "the chat goes on"
    wait_for(lambda: "was written by a later version" in host.log(), "a clear sentence", 60)
    assert "not_spooled" in host.log()
    host.kill()
    with contextlib.closing(sqlite3.connect(host.spool)) as db, db:
        db.execute(f"PRAGMA user_version = {len(SPOOL_MIGRATIONS)}")
    host.start()
    bill.add(send_answers(host.url, [an_answer(random) for _ in range(20)]))
    books.settle(bill, lambda: host.waiting() == 0)


def _write_as_version_99(spool: Path, min_reader: int) -> None:
    with contextlib.closing(sqlite3.connect(spool)) as db, db:
        db.execute("ALTER TABLE rows ADD COLUMN of_the_future TEXT")
        db.execute("CREATE TABLE also_of_the_future (one INTEGER)")
        db.execute("UPDATE meta SET value = ? WHERE name = 'min_reader'", (min_reader,))
        db.execute("PRAGMA user_version = 99")
