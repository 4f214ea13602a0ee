"""What every event store keeps beside the events, and what it deletes."""

from datetime import timedelta

import pytest

from shared.event_store.port import EventStore, Window
from tests.support.builders import (
    CHARLIE,
    NOON,
    unmetered,
)
from tests.support.stores import AROUND, AWKWARD, HOUR, by_id, generation, host, read, user, write


def test_unmetered_rows_are_read_by_window(store: EventStore) -> None:
    rows = [
        unmetered(request_id=f"task:{text}", task=text, model=text, chat_id=text)
        for text in AWKWARD
    ]
    late = unmetered(request_id="task:late", occurred_at=NOON + HOUR)
    write(store, *rows, late)
    found = store.unmetered(Window(NOON, NOON + HOUR))
    assert sorted(found, key=repr) == sorted(rows, key=repr)
    assert store.unmetered(Window(NOON + HOUR, NOON + 2 * HOUR)) == [late]
    assert store.usage(AROUND) == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_only_the_newest_row_of_every_host_counts(
    store: EventStore, order: tuple[int, ...]
) -> None:
    newest = host(
        occurred_at=NOON + HOUR,
        delivery_state="breaker_open",
        breaker="open",
        message='no answer from "InfluxDB", waiting',
        queued=7,
        dead_letters=1,
        oldest_age_seconds=12.5,
        hook_p50_ms=0.25,
        hook_p99_ms=2.0,
        write_p50_ms=30.0,
        write_p99_ms=164.125,
        counters={"put": 9, "refused: no id": 2},
    )
    rows = [host(occurred_at=NOON - HOUR), host(), newest]
    write(store, *(rows[index] for index in order))
    other = host(host_id="host 2", host_kind="function", counters={})
    write(store, other)
    assert sorted(store.hosts(), key=lambda row: row.host_id) == [other, newest]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_only_the_newest_row_of_every_user_counts(
    store: EventStore, order: tuple[int, ...]
) -> None:
    newest = user(occurred_at=NOON + HOUR, name=None, email="alice@example.com")
    rows = [user(name='Alice "A." Archer'), newest]
    write(store, *(rows[index] for index in order))
    nameless = user(user_id=CHARLIE, name=None)
    write(store, nameless)
    assert sorted(store.users(), key=lambda row: row.user_id) == [newest, nameless]


def test_exactly_the_events_of_one_import_are_deleted(store: EventStore) -> None:
    ours = [generation(n, source="import:2026-11") for n in range(3)]
    ours.append(generation(9, NOON - timedelta(days=400), source="import:2026-11"))
    others = [
        generation(4),
        generation(5, source="import:2026-1"),
        generation(6, source="import:2026-11b"),
        generation(7, source='import:2026-11" OR source="function'),
        generation(8, source="import:2026-11' OR source='function"),
    ]
    write(store, *ours, *others)
    assert store.delete_import("2026-11") == 4
    assert read(store) == by_id(others)
    assert store.delete_import("2026-11") == 0
    assert store.delete_import('2026-11" OR source="function') == 1
    assert store.delete_import("2026-11' OR source='function") == 1
    assert read(store) == by_id(others[:3])


def test_an_import_that_was_deleted_can_be_written_again(store: EventStore) -> None:
    again = generation(1, source="import:a")
    write(store, again)
    store.delete_import("a")
    write(store, again)
    assert read(store) == [again]
