"""A spool file between versions: an older program uses it while and after it is brought up to date.

The statements of older versions stand here as those versions wrote them. Never to be changed.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from shared.core.event import UsageEvent
from shared.core.ids import store_ns, utc_milliseconds
from shared.core.rows import HostRow
from shared.spool.schema import SPOOL_MIGRATIONS, check_spool, upgrade_spool
from shared.spool.sqlite_spool import SqliteSpool
from tests.conftest import ROOT
from tests.support.builders import NOON, generation_id, settled
from tests.support.spools import SetClock
from tests.support.waiting import wait_for

FIRST_VERSION = ROOT / "tests" / "fixtures" / "spool_v1.sql"
DAY_MS = 86_400_000
NOON_MS = utc_milliseconds(NOON)


class FirstProgram:
    """What the first version did with a file that it had open."""

    def __init__(self, path: Path) -> None:
        self.file = sqlite3.connect(path, timeout=20, isolation_level=None)

    def knows(self, event: UsageEvent) -> tuple[bool, bool]:
        found = self.file.execute(
            """SELECT
            EXISTS (SELECT 1 FROM rows WHERE event_id = :event_id)
                OR EXISTS (SELECT 1 FROM delivered WHERE event_id = :event_id),
            EXISTS (SELECT 1 FROM rows WHERE store_ns = :store_ns)
                OR EXISTS (SELECT 1 FROM delivered WHERE store_ns = :store_ns)""",
            {"event_id": bytes.fromhex(event.event_id), "store_ns": place_of(event)},
        ).fetchone()
        return bool(found[0]), bool(found[1])

    def queue(self, event: UsageEvent, kind: str = "usage") -> None:
        self.file.execute(
            "INSERT INTO rows (kind, event_id, request_id, store_ns, state, words, queued_at, json)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                kind,
                bytes.fromhex(event.event_id),
                event.request_id,
                place_of(event),
                "queued",
                "",
                NOON_MS,
                event.to_json(),
            ),
        )

    def accept(self, first: int, last: int) -> int:
        among = "row_id BETWEEN ? AND ?"
        self.file.execute(
            "INSERT OR IGNORE INTO delivered (event_id, store_ns, delivered_at)"  # noqa: S608 - own words
            f" SELECT event_id, store_ns, ? FROM rows WHERE {among} AND kind <> 'host'"
            " ORDER BY row_id",
            (NOON_MS, first, last),
        )
        return self.file.execute(
            f"DELETE FROM rows WHERE {among}",  # noqa: S608 - own words
            (first, last),
        ).rowcount

    def forget(self, before_ms: int) -> None:
        self.file.execute(
            "DELETE FROM delivered WHERE delivered_at < ? AND number IN"
            " (SELECT number FROM delivered ORDER BY number LIMIT ?)",
            (before_ms, 500),
        )


def place_of(event: UsageEvent) -> int:
    return store_ns(event.event_id, event.request_id, event.occurred_at)


def host(minute: int) -> HostRow:
    return HostRow(
        host_id="host-1",
        occurred_at=NOON + timedelta(minutes=minute),
        host_kind="function",
        version="1.0",
        started_at=NOON,
    )


def digests_of(path: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute(
            "SELECT lower(hex(event_id)), is_delivered FROM digests ORDER BY event_id"
        ).fetchall()


def with_first_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(FIRST_VERSION.read_text())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "function.sqlite3"


@pytest.fixture
def old(path: Path) -> Iterator[FirstProgram]:
    with_first_version(path)
    program = FirstProgram(path)
    assert program.knows(settled()) == (True, True)
    with closing(program.file):
        yield program


@pytest.fixture
def new(path: Path, old: FirstProgram) -> Iterator[SqliteSpool]:
    spool = SqliteSpool(path, clock=SetClock())
    assert spool.status().queued == 1
    with closing(spool):
        yield spool


def test_a_program_of_the_first_version_goes_on_with_a_file_that_was_brought_up_to_date(
    path: Path, old: FirstProgram, new: SqliteSpool
) -> None:
    check_spool(old.file, path, SPOOL_MIGRATIONS[:1])
    mine, theirs = settled(request_id="turn:a:1"), settled(request_id="turn:a:2")
    old.queue(mine)
    assert new.put([mine]).result(20) == ["duplicate"]
    assert new.put([theirs]).result(20) == ["queued"]
    assert old.knows(theirs) == (True, True)
    assert old.accept(1, 1) + old.accept(6, 7) == 3
    assert new.take(10) == []
    assert new.put([settled(), mine, theirs]).result(20) == ["duplicate"] * 3
    assert old.knows(settled()) == old.knows(theirs) == (True, True)


def test_what_this_version_delivered_is_known_to_the_first(
    old: FirstProgram, new: SqliteSpool
) -> None:
    new.settle(accepted=[row.row_id for row in new.take(10)])
    assert old.knows(settled()) == (True, True)
    assert old.knows(settled(request_id="turn:a:1")) == (False, False)


def test_a_host_row_of_the_first_version_leaves_no_digest(
    path: Path, old: FirstProgram, new: SqliteSpool
) -> None:
    before = digests_of(path)
    old.queue(settled(request_id="turn:a:1"), kind="host")
    assert len(digests_of(path)) == len(before) + 1
    assert old.accept(6, 6) == 1
    assert digests_of(path) == before
    assert new.status().queued == 1


def test_a_host_row_of_this_version_leaves_no_digest(path: Path, new: SqliteSpool) -> None:
    before = digests_of(path)
    for minute in range(3):
        new.put_host(host(minute)).result(20)
    assert len(digests_of(path)) == len(before) + 1
    _, newest = new.take(10)
    assert newest.kind == "host"
    new.settle(accepted=[newest.row_id])
    assert digests_of(path) == before


def test_the_first_version_forgets_old_digests_and_no_other_ones(
    path: Path, old: FirstProgram, new: SqliteSpool
) -> None:
    before = digests_of(path)
    old.forget(NOON_MS)
    assert digests_of(path) == before
    old.forget(NOON_MS + DAY_MS)
    assert digests_of(path) == [(event_id, 0) for event_id, is_done in before if not is_done]
    assert new.put([settled(request_id=generation_id(4))]).result(20) == ["queued"]


def test_digests_are_kept_whose_place_in_the_store_another_event_has(path: Path) -> None:
    with_first_version(path)
    others = [settled(request_id=f"turn:a:{number}") for number in range(3)]
    with closing(sqlite3.connect(path)) as file, file:
        file.executemany(
            "INSERT INTO delivered (event_id, store_ns, delivered_at) VALUES (?, ?, ?)",
            [(bytes.fromhex(event.event_id), place_of(settled()), NOON_MS) for event in others],
        )
    clock = SetClock()
    with closing(SqliteSpool(path, clock=clock)) as spool:
        assert spool.put([*others, settled()]).result(20) == ["duplicate"] * 4
        assert len(spool.take(10)) == 1
    # ... and forgotten in their time.
    clock.move(36 * 86_400)
    with closing(SqliteSpool(path, clock=clock)) as spool:
        spool.put([settled()]).result(20)
        wait_for(lambda: not any(is_delivered for _, is_delivered in digests_of(path)))


def test_a_program_of_the_second_version_goes_on_as_well(path: Path) -> None:
    event, next_event = settled(request_id="turn:a:1"), settled(request_id="turn:a:2")
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        upgrade_spool(file, SPOOL_MIGRATIONS[:2])
        _queue_as_second_version(file, event)
        with closing(SqliteSpool(path, clock=SetClock())) as spool:
            assert spool.put([event]).result(20) == ["duplicate"]
            _queue_as_second_version(file, next_event)
            assert spool.put([next_event]).result(20) == ["duplicate"]
            assert [row.row_id for row in spool.take(10)] == [1, 2]
            spool.settle(accepted=[1, 2])
    assert [is_delivered for _, is_delivered in digests_of(path)] == [1, 1]


def _queue_as_second_version(file: sqlite3.Connection, event: UsageEvent) -> None:
    digest = bytes.fromhex(event.event_id)
    file.execute("INSERT INTO digests VALUES (?, ?, 0, ?)", (place_of(event), digest, NOON_MS))
    file.execute(
        "INSERT INTO rows (kind, event_id, request_id, store_ns, state, words, queued_at, json)"
        " VALUES ('usage', ?, ?, ?, 'queued', '', ?, ?)",
        (digest, event.request_id, place_of(event), NOON_MS, event.to_json()),
    )
