"""What every event store keeps to, on real servers too: rows, windows, uniqueness."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

from shared.domain.rows import Row
from shared.ports import EventStore, SpooledRow, Window
from tests.builders import (
    BOB,
    NOON,
    pending,
    settled,
    turn,
    unmetered,
)
from tests.contract.stores import (
    AFTERNOON,
    AROUND,
    HOUR,
    MILLISECOND,
    by_id,
    generation,
    host,
    read,
    user,
    write,
)
from tests.spools import spooled


def test_an_empty_store_answers_with_nothing(store: EventStore) -> None:
    assert store.usage(AROUND) == []
    assert list(store.events(AROUND)) == []
    assert store.fingerprints(AROUND) == {}
    assert store.unmetered(AROUND) == []
    assert store.hosts() == []
    assert store.users() == []
    assert store.is_unique(AROUND)
    assert store.delete_import("none") == 0


def test_a_row_written_again_changes_nothing(store: EventStore) -> None:
    rows: list[Row] = [settled(), pending(), turn(), unmetered(), host(), user()]
    write(store, *rows)
    before = (store.usage(AROUND), read(store), store.fingerprints(AROUND))
    for _ in range(3):
        write(store, *rows)
        write(store, *reversed(rows))
    assert (store.usage(AROUND), read(store), store.fingerprints(AROUND)) == before
    assert len(read(store)) == 3
    assert store.unmetered(AROUND) == [unmetered()]
    assert (store.hosts(), store.users()) == ([host()], [user()])


def test_two_observations_of_one_bill_are_both_kept(store: EventStore) -> None:
    write(store, pending(), settled())
    write(store, settled(source="webhook", cost_source="webhook"))
    assert read(store) == by_id(
        [pending(), settled(), settled(source="webhook", cost_source="webhook")]
    )


def test_the_order_of_arrival_does_not_matter(store: EventStore) -> None:
    seen = []
    for shift, order in enumerate(permutations(range(4))):
        if shift % 4:
            continue  # six of the orders are enough
        start = NOON + shift * 2 * HOUR
        rows = [
            generation(1, start),
            generation(2, start, external_user=BOB),
            generation(1, start, cost_usd=None, cost_source="none", total_tokens=0),
            generation(3, start, model="other/model"),
        ]
        for index in order:
            write(store, rows[index])
        window = Window(start, start + HOUR)
        groups = sorted(store.usage(window), key=repr)
        seen.append((groups, list(store.fingerprints(window).values()), store.is_unique(window)))
    assert len(seen) == 6
    assert all(one == seen[0] for one in seen)


def test_a_window_holds_its_start_and_not_its_end(store: EventStore) -> None:
    inside = [generation(1, NOON), turn(occurred_at=NOON + HOUR - MILLISECOND)]
    outside = [
        turn(request_id="turn:c:before", occurred_at=NOON - MILLISECOND),
        generation(2, NOON + HOUR),
        generation(3, NOON - timedelta(seconds=1)),
    ]
    write(store, *inside, *outside)
    window = Window(NOON, NOON + HOUR)
    assert read(store, window) == by_id(inside)
    assert sum(group.sums.events for group in store.usage(window)) == 2
    assert sum(one.events for one in store.fingerprints(window).values()) == 2


def test_neighbouring_windows_hold_every_event_once(store: EventStore) -> None:
    events = [generation(n, NOON + timedelta(seconds=n)) for n in range(20)]
    events += [
        turn(request_id=f"turn:c:{n}", occurred_at=NOON + n * MILLISECOND) for n in range(990, 1010)
    ]
    write(store, *events)
    edge = NOON + timedelta(seconds=1)
    for cut in (edge, edge - MILLISECOND, edge + MILLISECOND, edge + timedelta(microseconds=500)):
        left, right = Window(NOON - HOUR, cut), Window(cut, NOON + HOUR)
        assert by_id([*read(store, left), *read(store, right)]) == by_id(events)
        sums = [sum(group.sums.events for group in store.usage(w)) for w in (left, right)]
        assert sums == [len(read(store, left)), len(read(store, right))]
        counts = [sum(f.events for f in store.fingerprints(w).values()) for w in (left, right)]
        assert counts == sums


def test_a_bill_seen_twice_is_not_unique(store: EventStore) -> None:
    write(store, generation(1), generation(2))
    assert store.is_unique(AFTERNOON)
    write(store, generation(2, source="webhook", cost_source="webhook"))
    assert not store.is_unique(AFTERNOON)
    assert store.is_unique(Window(NOON + 2 * HOUR, NOON + 3 * HOUR))


def test_uniqueness_looks_an_hour_beyond_the_edges(store: EventStore) -> None:
    """A turn may be observed at two instants, on either side of midnight."""
    window = Window(NOON, NOON + HOUR)
    write(store, turn(occurred_at=NOON + HOUR - MILLISECOND))
    write(store, turn(occurred_at=NOON + 2 * HOUR, total_tokens=19))
    write(store, turn(occurred_at=NOON - HOUR - timedelta(seconds=1), total_tokens=20))
    assert store.is_unique(window)
    write(store, turn(occurred_at=NOON + 2 * HOUR - MILLISECOND, total_tokens=21))
    assert not store.is_unique(window)


def test_uniqueness_looks_an_hour_back_too(store: EventStore) -> None:
    write(store, turn(), turn(occurred_at=NOON - HOUR, total_tokens=19))
    assert not store.is_unique(Window(NOON, NOON + HOUR))
    assert store.is_unique(Window(NOON + HOUR, NOON + 2 * HOUR))


def test_a_damaged_row_is_rejected_alone(store: EventStore) -> None:
    good, damaged, stranger = spooled([settled(), pending(), turn()])
    broken = SpooledRow(2, "usage", damaged.event_id, '{"request_id":', damaged.store_ns, 0)
    unknown: Any = SpooledRow(3, "poem", stranger.event_id, "{}", stranger.store_ns, 0)  # type: ignore[arg-type]
    result = store.write([good, broken, unknown])
    assert result.accepted == [0]
    assert [position for position, _ in result.rejected] == [1, 2]
    assert all(words for _, words in result.rejected)
    assert read(store) == [settled()]


def test_a_store_that_works_says_so(store: EventStore) -> None:
    assert store.health().ok
    write(store, settled())
    health = store.health()
    assert health.ok and health.detail


def test_times_before_the_unix_epoch_do_not_break_a_reading(store: EventStore) -> None:
    write(store, settled())
    window = Window(datetime(1969, 1, 1, tzinfo=UTC), NOON + HOUR)
    assert read(store, window) == [settled()]
