"""Open generations: tracked without waiting, closed by their usage, pending when they expire."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from shared.core.event import UsageEvent, event_from_json
from shared.core.time import to_ms
from shared.spool import sqlite_spool
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool
from tests.support.builders import NOON, generation_id, pending, settled
from tests.support.spools import SetClock
from tests.support.waiting import wait_for

QUIET = 120.0


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "function.sqlite3"


@pytest.fixture
def alice(path: Path, clock: SetClock) -> Iterator[SqliteSpool]:
    """The spool of one process."""
    spool = SqliteSpool(path, clock=clock)
    yield spool
    spool.close()


@pytest.fixture
def bob(path: Path, clock: SetClock) -> Iterator[SqliteSpool]:
    """The spool of another process on the same file."""
    spool = SqliteSpool(path, clock=clock)
    yield spool
    spool.close()


def booked(spool: SqliteSpool) -> list[UsageEvent]:
    return [event_from_json(row.json) for row in spool.take(100)]


def test_usage_closes_the_generation(alice: SqliteSpool, clock: SetClock) -> None:
    alice.track(pending())
    assert alice.put([settled()]).result(10) == ["queued"]
    assert alice.status().open_generations == 0
    clock.move(1000)
    assert alice.expire_open(clock.now(), QUIET) == 0
    assert booked(alice) == [settled()]


def test_silence_books_the_generation_as_pending(alice: SqliteSpool, clock: SetClock) -> None:
    alice.track(pending())
    clock.move(119)
    assert alice.expire_open(clock.now(), QUIET) == 0
    clock.move(1)
    assert alice.expire_open(clock.now(), QUIET) == 1
    assert booked(alice) == [pending()]
    status = alice.status()
    assert (status.open_generations, status.counters["expired_open"]) == (0, 1)
    assert alice.expire_open(clock.now(), QUIET) == 0


def test_a_generation_that_is_seen_stays_open(alice: SqliteSpool, clock: SetClock) -> None:
    alice.track(pending())
    for _ in range(5):
        clock.move(100)
        alice.touch([generation_id()])
        assert alice.expire_open(clock.now(), QUIET) == 0
    clock.move(120)
    assert alice.expire_open(clock.now(), QUIET) == 1


def test_usage_that_comes_after_the_silence_still_prices_it(
    alice: SqliteSpool, clock: SetClock
) -> None:
    alice.track(pending())
    clock.move(500)
    alice.expire_open(clock.now(), QUIET)
    assert alice.put([settled()]).result(10) == ["queued"]
    assert booked(alice) == [pending(), settled()]


def test_what_is_known_by_now_replaces_what_was_known(alice: SqliteSpool, clock: SetClock) -> None:
    alice.track(pending())
    alice.track(pending(output_tokens=7, total_tokens=7))
    clock.move(500)
    alice.expire_open(clock.now(), QUIET)
    assert booked(alice) == [pending(output_tokens=7, total_tokens=7)]


def test_a_generation_that_is_booked_is_not_opened_again(
    alice: SqliteSpool, bob: SqliteSpool
) -> None:
    alice.put([settled()]).result(10)
    bob.track(pending())
    assert bob.put([]).result(10) == []
    assert bob.status().open_generations == 0


def test_others_leave_the_generations_of_a_live_owner_alone(
    alice: SqliteSpool, bob: SqliteSpool, clock: SetClock
) -> None:
    alice.track(pending())
    assert bob.lease("bob", 30)
    clock.move(QUIET + 59)
    assert bob.lease("bob", 30)
    assert bob.expire_open(clock.now(), QUIET) == 0


def test_the_holder_of_the_lease_books_what_a_dead_process_left_open(
    alice: SqliteSpool, bob: SqliteSpool, clock: SetClock
) -> None:
    alice.track(pending())
    alice.close()
    clock.move(QUIET + 60)
    assert bob.expire_open(clock.now(), QUIET) == 0  # does not deliver
    assert bob.lease("bob", 30)
    assert bob.expire_open(clock.now(), QUIET) == 1
    assert booked(bob) == [pending()]


def seen_at(path: Path, request_id: str) -> int | None:
    with closing(sqlite3.connect(path)) as file:
        query = "SELECT last_seen FROM open_generations WHERE request_id = ?"
        found = file.execute(query, (request_id,)).fetchone()
        return None if found is None else int(found[0])


def test_upkeep_tells_others_that_a_generation_is_alive(path: Path, clock: SetClock) -> None:
    alice = SqliteSpool(path, settings=SpoolSettings(refresh_seconds=0.01), clock=clock)
    bob = SqliteSpool(path, clock=clock)
    alice.track(pending())
    wait_for(lambda: bob.status().open_generations == 1)
    clock.move(QUIET + 60)
    alice.touch([generation_id()])
    wait_for(lambda: seen_at(path, generation_id()) == to_ms(clock.now()))
    assert bob.lease("bob", 30)
    assert bob.expire_open(clock.now(), QUIET) == 0
    alice.close()
    bob.close()


def test_generations_that_ended_leave_room_for_those_that_are_alive(
    path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_spool, "_SEEN_MAX", 1)
    spool = SqliteSpool(path, settings=SpoolSettings(refresh_seconds=0.01), clock=clock)
    spool.track(pending())
    spool.touch([generation_id()])
    spool.put([settled()]).result(10)
    spool.track(pending(request_id=generation_id(2)))
    clock.move(QUIET + 1)

    def is_kept_alive() -> bool:
        spool.touch([generation_id(2)])
        return seen_at(path, generation_id(2)) == to_ms(clock.now())

    wait_for(is_kept_alive)
    assert spool.expire_open(clock.now(), QUIET) == 0
    spool.close()


def test_a_generation_that_expires_in_a_full_spool_is_booked_all_the_same(
    path: Path, clock: SetClock
) -> None:
    spool = SqliteSpool(path, settings=SpoolSettings(max_bytes=1), clock=clock)
    spool.track(pending())
    clock.move(500)
    assert spool.expire_open(clock.now(), QUIET) == 1
    assert booked(spool) == [pending()]
    spool.close()


def test_a_quarantined_pending_event_closes_its_generation(
    alice: SqliteSpool, clock: SetClock
) -> None:
    alice.track(pending(occurred_at=NOON + timedelta(hours=5)))
    clock.move(600)
    assert alice.expire_open(clock.now(), QUIET) == 1
    assert alice.status().quarantined == 1
    assert alice.status().open_generations == 0
