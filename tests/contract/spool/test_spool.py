"""The contract of a spool: what is queued, what is refused, what a delivery leaves behind."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from shared.core.event import event_from_json
from shared.core.ids import point_time_ns
from shared.core.rows import HostRow, Row, UnmeteredRow, UserRow
from shared.errors import SpoolError, SpoolFull
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool
from tests.support.builders import ALICE, BOB, NOON, generation_id, pending, settled, turn
from tests.support.spools import SetClock

SETTINGS = SpoolSettings(max_bytes=50 * 1024**2)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def spool(tmp_path: Path, clock: SetClock) -> Iterator[SqliteSpool]:
    opened = SqliteSpool(tmp_path / "function.sqlite3", settings=SETTINGS, clock=clock)
    yield opened
    opened.close()


def put(spool: SqliteSpool, *rows: Row) -> list[str]:
    return list(spool.put(rows).result(10))


def deliver_all(spool: SqliteSpool) -> int:
    taken = spool.take(5000)
    spool.acknowledge(accepted=[row.row_id for row in taken])
    return len(taken)


def host(seconds: float = 0, **fields: object) -> HostRow:
    heartbeat = {
        "host_id": "host-1",
        "occurred_at": NOON + timedelta(seconds=seconds),
        "host_kind": "function",
        "version": "1.0",
        "started_at": NOON,
    }
    return HostRow.model_validate(heartbeat | fields)


def test_a_queued_event_comes_back_as_it_was(spool: SqliteSpool) -> None:
    event = settled(model="anthropic/claude-sonnet-4.5", external_user="Zoë", cost_usd="7.4e-7")
    assert put(spool, event) == ["queued"]
    (row,) = spool.take(10)
    assert event_from_json(row.json) == event
    assert (row.kind, row.event_id, row.attempts) == ("usage", event.event_id, 0)
    assert row.point_time_ns == point_time_ns(event.event_id, event.request_id, event.occurred_at)


def test_rows_are_taken_in_the_order_of_their_arrival(spool: SqliteSpool) -> None:
    events = [settled(request_id=generation_id(number)) for number in range(7)]
    put(spool, *events)
    first = spool.take(3)
    rest = spool.take(10, after_row_id=first[-1].row_id)
    assert [row.event_id for row in first + rest] == [event.event_id for event in events]
    assert spool.take(3) == first


def test_the_same_observation_is_queued_once(spool: SqliteSpool) -> None:
    assert put(spool, settled(), settled()) == ["queued", "duplicate"]
    assert put(spool, settled(external_user=BOB)) == ["duplicate"]
    assert len(spool.take(10)) == 1
    assert spool.status().counters["duplicate"] == 2


def test_an_event_is_known_long_after_its_delivery(spool: SqliteSpool, clock: SetClock) -> None:
    put(spool, settled())
    assert deliver_all(spool) == 1
    clock.move(34 * 86_400)
    assert put(spool, settled()) == ["duplicate"]
    assert spool.take(10) == []


def test_pending_and_then_settled_is_no_conflict(spool: SqliteSpool) -> None:
    assert put(spool, pending()) == ["queued"]
    assert put(spool, settled()) == ["queued"]
    assert "conflict" not in spool.status().counters


def test_two_settled_amounts_for_one_bill_are_kept_and_counted(spool: SqliteSpool) -> None:
    assert put(spool, settled(), settled(cost_usd="0.5")) == ["queued", "queued"]
    assert put(spool, settled(source="webhook")) == ["queued"]
    assert spool.status().counters["conflict"] == 2  # the first two, and the third with the second


def test_the_same_amount_from_another_observer_is_no_conflict(spool: SqliteSpool) -> None:
    put(spool, settled(), settled(source="webhook", cost_source="webhook"))
    assert "conflict" not in spool.status().counters


def test_an_event_moves_when_its_place_in_the_store_is_taken(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "shared.spool.enqueue.point_time_ns", lambda _event, _request, _at, offset: 1000 + offset
    )
    put(spool, settled())
    put(spool, settled(request_id=generation_id(2)), settled(request_id=generation_id(3)))
    assert [row.point_time_ns for row in spool.take(10)] == [1000, 1001, 1002]
    deliver_all(spool)
    put(spool, settled(request_id=generation_id(4)))
    assert [row.point_time_ns for row in spool.take(10)] == [1003]


def test_an_amount_above_the_limit_waits_for_a_person(spool: SqliteSpool) -> None:
    event = settled(cost_usd=Decimal("10000.01"))
    assert put(spool, event) == ["quarantined"]
    assert put(spool, event) == ["duplicate"]
    assert spool.take(10) == []
    (letter,) = spool.dead_letters()
    assert (letter.state, letter.message) == ("quarantined", "cost_above_limit")
    status = spool.status()
    assert (status.queued, status.quarantined) == (0, 1)
    assert status.counters["quarantined_cost_above_limit"] == 1


def test_a_time_far_ahead_waits_for_a_person_and_goes_when_replayed(spool: SqliteSpool) -> None:
    put(spool, settled(occurred_at=NOON + timedelta(hours=2)))
    put(spool, settled(occurred_at=NOON.replace(year=9999), source="import:1"))
    assert [letter.message for letter in spool.dead_letters()] == [
        "in_the_future",
        "time_out_of_range",
    ]
    assert spool.replay(kinds=["unmetered"]) == 0
    assert spool.replay(states=["dead"]) == 0
    assert spool.replay() == 2
    assert spool.replay() == 0
    assert len(spool.take(10)) == 2


def test_a_rejected_row_is_kept_with_the_message_of_the_server(spool: SqliteSpool) -> None:
    put(spool, settled(), settled(request_id=generation_id(2)))
    bad, good = spool.take(10)
    spool.acknowledge(
        accepted=[good.row_id], rejected=[(bad.row_id, "unable to parse " + "x" * 900)]
    )
    (letter,) = spool.dead_letters()
    assert letter.row_id == bad.row_id
    assert letter.message.startswith("unable to parse")
    assert len(letter.message) == 500
    assert (letter.attempts, spool.status().dead_letters) == (1, 1)
    assert spool.replay() == 1
    assert [(row.row_id, row.attempts) for row in spool.take(10)] == [(bad.row_id, 0)]


def test_kept_rows_count_their_attempts(spool: SqliteSpool) -> None:
    put(spool, settled())
    (row,) = spool.take(1)
    spool.acknowledge(kept=[row.row_id])
    spool.acknowledge(kept=[row.row_id])
    assert spool.take(1) == [replace(row, attempts=2)]


def test_acknowledging_twice_changes_nothing(spool: SqliteSpool) -> None:
    put(spool, settled())
    (row,) = spool.take(1)
    spool.acknowledge(accepted=[row.row_id])
    spool.acknowledge(accepted=[row.row_id], rejected=[(row.row_id, "late")], kept=[row.row_id])
    status = spool.status()
    assert (status.queued, status.dead_letters) == (0, 0)
    assert status.counters["delivered"] == 1


def test_a_dead_letter_keeps_its_first_message_and_is_counted_once(spool: SqliteSpool) -> None:
    put(spool, settled())
    (row,) = spool.take(1)
    spool.acknowledge(rejected=[(row.row_id, "unable to parse")])
    spool.acknowledge(rejected=[(row.row_id, "late")], kept=[row.row_id])
    (letter,) = spool.dead_letters()
    assert (letter.message, letter.attempts) == ("unable to parse", 1)
    assert spool.status().counters["dead"] == 1


def test_a_late_acknowledgement_never_hits_a_younger_row(spool: SqliteSpool) -> None:
    put(spool, settled())
    (old,) = spool.take(1)
    spool.acknowledge(accepted=[old.row_id])
    put(spool, settled(request_id=generation_id(2)))
    spool.acknowledge(accepted=[old.row_id])
    assert len(spool.take(10)) == 1


def test_thousands_of_rows_are_all_acknowledged(spool: SqliteSpool) -> None:
    put(spool, *(settled(request_id=generation_id(number)) for number in range(2500)))
    assert deliver_all(spool) == 2500
    assert spool.status().queued == 0


def test_a_full_spool_refuses_all_of_a_put_and_says_so(tmp_path: Path, clock: SetClock) -> None:
    small = SpoolSettings(max_bytes=160_000)
    spool = SqliteSpool(tmp_path / "function.sqlite3", settings=small, clock=clock)
    number = 0
    with pytest.raises(SpoolFull, match="160000 bytes"):
        while True:
            put(spool, settled(request_id=generation_id(number)))
            number += 1
    assert number > 20
    with pytest.raises(SpoolFull):
        put(spool, settled(request_id=generation_id(1)), settled(request_id="turn:a:b"))
    assert put(spool, settled(request_id=generation_id(1))) == ["duplicate"]
    status = spool.status()
    assert status.queued == number
    assert status.counters["refused_full"] == 3
    assert status.size_limit_bytes == 160_000
    assert put(spool, host()) == ["queued"]
    deliver_all(spool)
    assert put(spool, settled(request_id="turn:a:b")) == ["queued"]
    spool.close()


def test_a_row_of_unreasonable_size_is_refused_alone(spool: SqliteSpool) -> None:
    counters = {f"reason-{number}": number for number in range(9000)}
    assert put(spool, host(counters=counters), settled()) == ["refused", "queued"]
    assert spool.status().counters["refused_too_large"] == 1


def test_every_kind_of_row_travels(spool: SqliteSpool) -> None:
    user = UserRow(user_id=ALICE, occurred_at=NOON, name="Alice")
    task = UnmeteredRow(
        request_id="task:1", occurred_at=NOON, external_user=ALICE, model="a/b", task="tags"
    )
    assert put(spool, user, task, host(), turn()) == ["queued"] * 4
    assert [row.kind for row in spool.take(10)] == ["user", "unmetered", "host", "usage"]
    assert put(spool, user, task) == ["duplicate", "duplicate"]


def test_only_the_newest_heartbeat_of_a_host_waits(spool: SqliteSpool) -> None:
    put(spool, host(0), host(0, host_id="host-2"))
    spool.put([host(60, message="disk is nearly full")]).result(10)
    assert len(spool.take(10)) == 2
    assert [row.message for row in spool.hosts()] == ["disk is nearly full", "ok"]
    deliver_all(spool)
    assert [row.host_id for row in spool.hosts()] == ["host-1", "host-2"]
    put(spool, host(30, message="late"))
    assert spool.hosts()[0].message == "disk is nearly full"


def test_a_heartbeat_of_before_the_clock_was_set_back_does_not_last(spool: SqliteSpool) -> None:
    put(spool, host(3600, message="from the future"))
    put(spool, host(0))
    assert [row.message for row in spool.hosts()] == ["ok"]


def test_one_owner_delivers_at_a_time(spool: SqliteSpool, clock: SetClock) -> None:
    assert spool.lease("alice", 30)
    assert spool.lease("alice", 30)
    assert not spool.lease("bob", 30)
    clock.move(29)
    assert spool.lease("alice", 30)
    clock.move(29)
    assert not spool.lease("bob", 30)
    clock.move(2)
    assert spool.lease("bob", 30)
    assert not spool.lease("alice", 30)
    spool.release("alice")
    assert not spool.lease("alice", 30)
    spool.release("bob")
    assert spool.lease("alice", 30)


def test_a_lease_from_a_clock_that_was_wrong_does_not_last(
    spool: SqliteSpool, clock: SetClock
) -> None:
    clock.move(400 * 86_400)
    assert spool.lease("alice", 30)
    clock.move(-400 * 86_400)
    assert spool.lease("bob", 30)


def test_counts_from_outside_are_kept_in_the_file(spool: SqliteSpool, clock: SetClock) -> None:
    spool.count("overrun", 2)
    assert spool.status().counters["overrun"] == 2
    put(spool, settled())
    assert spool.status().counters["overrun"] == 2
    another = SqliteSpool(spool.path, settings=SETTINGS, clock=clock)
    assert another.status().counters == {"overrun": 2, "queued": 1}
    assert another.counters() == {}
    assert spool.counters() == {"overrun": 2, "queued": 1}
    another.close()


def test_the_export_is_readable_json_of_every_row(spool: SqliteSpool) -> None:
    put(spool, settled(), settled(request_id=generation_id(2), cost_usd=20_000))
    lines = [json.loads(line) for line in spool.export()]
    assert [line["state"] for line in lines] == ["queued", "quarantined"]
    assert lines[0]["row"]["external_user"] == ALICE
    assert lines[0]["queued_at"] == NOON.isoformat()


def test_reading_page_by_page_loses_no_letter(spool: SqliteSpool) -> None:
    put(spool, *(settled(request_id=generation_id(number)) for number in range(1201)))
    rows = spool.take(2000)
    spool.acknowledge(rejected=[(row.row_id, "no") for row in rows])
    assert [letter.row_id for letter in spool.dead_letters()] == [row.row_id for row in rows]


def test_status_tells_the_age_of_the_oldest_row(spool: SqliteSpool, clock: SetClock) -> None:
    assert spool.status().oldest_queued_at is None
    put(spool, settled())
    clock.move(90)
    put(spool, settled(request_id=generation_id(2)))
    assert spool.status().oldest_queued_at == NOON


def test_a_closed_spool_takes_nothing_and_says_so(spool: SqliteSpool) -> None:
    put(spool, settled())
    spool.close()
    spool.close()
    with pytest.raises(SpoolError, match="closed"):
        put(spool, settled(request_id=generation_id(2)))
    assert len(spool.take(10)) == 1


def test_closing_commits_what_waits(tmp_path: Path, clock: SetClock) -> None:
    spool = SqliteSpool(tmp_path / "function.sqlite3", settings=SETTINGS, clock=clock)
    waiting = [spool.put([settled(request_id=generation_id(number))]) for number in range(300)]
    spool.close()
    assert all(future.result(0) == ["queued"] for future in waiting)
    reopened = SqliteSpool(tmp_path / "function.sqlite3", settings=SETTINGS, clock=clock)
    assert len(reopened.take(1000)) == 300
    reopened.close()


def test_a_spool_that_was_only_made_touches_nothing(tmp_path: Path, clock: SetClock) -> None:
    SqliteSpool(tmp_path / "deep" / "function.sqlite3", clock=clock)
    assert list(tmp_path.iterdir()) == []
