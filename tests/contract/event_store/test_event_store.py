"""What every event store keeps to, on real servers too: rows, windows, uniqueness."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

from shared.core.rows import Row
from shared.event_store.port import EventStore, Window
from shared.spool.port import SpooledRow
from tests.support.builders import (
    BOB,
    NOON,
    generation_id,
    pending,
    settled,
    turn,
    unmetered,
)
from tests.support.spools import spooled
from tests.support.stores import (
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


def test_an_empty_store_answers_with_nothing(store: EventStore) -> None:
    assert store.usage(AROUND) == []
    assert list(store.events(AROUND)) == []
    assert store.fingerprints(AROUND) == {}
    assert store.unmetered(AROUND) == []
    assert store.hosts() == []
    assert store.users() == []
    assert list(store.repeated(AROUND)) == []
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
        repeated = len(store.repeated(window))
        seen.append((groups, list(store.fingerprints(window).values()), repeated))
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
    assert sum(group.amounts.events for group in store.usage(window)) == 2
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
        sums = [sum(group.amounts.events for group in store.usage(w)) for w in (left, right)]
        assert sums == [len(read(store, left)), len(read(store, right))]
        counts = [sum(f.events for f in store.fingerprints(w).values()) for w in (left, right)]
        assert counts == sums


def test_the_events_of_bills_seen_twice_are_found(store: EventStore) -> None:
    write(store, generation(1), generation(2), generation(3, NOON + 2 * HOUR))
    assert list(store.repeated(AFTERNOON)) == []
    again = generation(2, source="webhook", cost_source="webhook")
    write(store, again)
    assert by_id(store.repeated(AFTERNOON)) == by_id([generation(2), again])
    assert list(store.repeated(Window(NOON + 2 * HOUR, NOON + 3 * HOUR))) == []


def test_bills_that_one_source_tells_twice_are_found_beside_those_of_two(
    store: EventStore,
) -> None:
    changed = [generation(1), generation(1, cost_usd=None, cost_source="none", total_tokens=0)]
    both = [generation(2), generation(2, source="webhook", cost_source="webhook")]
    write(store, *changed, *both, generation(3), generation(4))
    assert by_id(store.repeated(AFTERNOON)) == by_id([*changed, *both])


def test_bills_of_three_sources_are_found_whole(store: EventStore) -> None:
    told = [generation(n) for n in range(6)]
    told += [generation(n, source="webhook", cost_source="webhook") for n in (1, 2)]
    told += [generation(n, source="manual", cost_source="manual") for n in (2, 3)]
    write(store, *told, generation(9))
    expected = [event for event in told if event.request_id in map(generation_id, (1, 2, 3))]
    found = by_id(store.repeated(AFTERNOON))
    assert found == by_id(expected)


def test_only_the_window_counts_for_what_is_repeated(store: EventStore) -> None:
    """A turn may be observed at two instants."""
    turns = [
        turn(occurred_at=NOON + HOUR - MILLISECOND),
        turn(occurred_at=NOON + 2 * HOUR, total_tokens=19),
    ]
    write(store, *turns)
    assert list(store.repeated(Window(NOON, NOON + 2 * HOUR))) == []
    assert by_id(store.repeated(Window(NOON, NOON + 3 * HOUR))) == by_id(turns)


def test_a_damaged_row_is_rejected_alone(store: EventStore) -> None:
    good, damaged, stranger = spooled([settled(), pending(), turn()])
    broken = SpooledRow(2, "usage", damaged.event_id, '{"request_id":', damaged.point_time_ns, 0)
    unknown: Any = SpooledRow(3, "poem", stranger.event_id, "{}", stranger.point_time_ns, 0)  # type: ignore[arg-type]
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
