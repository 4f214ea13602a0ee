"""Two event stores read as one, while the setting goes to and fro and one of them goes away."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Misconfigured, Unavailable
from shared.event_store.combined.coverage import StoreCoverage
from shared.event_store.combined.store import CombinedStore
from shared.event_store.port import Fingerprint, Window
from shared.event_store.sqlite.store import EmbeddedStore
from tests.support.builders import NOON, generation_id, turn, unmetered
from tests.support.stores import HOUR, Leaving, by_id, generation, host, user, write

DAY = timedelta(days=1)


def day(number: int) -> Window:
    start = NOON + number * DAY
    return Window(start, start + DAY)


class Both:
    """An embedded store, another one, and the two read as one in either order."""

    def __init__(self, folder: Path) -> None:
        self.embedded = EmbeddedStore(folder / "embedded.sqlite3")
        self.influx = Leaving(folder / "influx.sqlite3")
        self.coverage = StoreCoverage(folder / "embedded.sqlite3")
        self.on = CombinedStore([self.influx, self.embedded], self.coverage)
        self.off = CombinedStore([self.embedded, self.influx], self.coverage)

    def look_at(self, *numbers: int) -> None:
        """Read fingerprints as the projection does every minute."""
        for number in numbers:
            self.on.fingerprints(day(number))


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    """Two empty stores."""
    both = Both(tmp_path)
    yield both
    for part in (both.embedded, both.influx, both.coverage):
        part.close()


def ids(events: Sequence[Any]) -> list[str]:
    return [event.event_id for event in by_id(events)]


def test_the_first_store_is_written_to(both: Both) -> None:
    write(both.on, generation(1))
    write(both.off, generation(2))
    assert list(both.influx.events(day(0))) == [generation(1)]
    assert list(both.embedded.events(day(0))) == [generation(2)]


def test_switching_to_and_fro_loses_and_doubles_nothing(both: Both) -> None:
    events = [generation(n, NOON + n * HOUR / 4) for n in range(12)]
    for position, event in enumerate(events):
        write(both.on if position // 4 % 2 else both.off, event)
    write(both.on, events[0], events[5])  # delivered again after the switch
    for store in (both.on, both.off):
        assert ids(list(store.events(day(0)))) == ids(events)
        assert ids(list(store.repeated(day(0)))) == ids([events[0]])


def test_a_day_in_one_store_alone_is_added_up_there(both: Both) -> None:
    write(both.off, generation(1), generation(2))
    for store in (both.on, both.off):
        assert list(store.repeated(day(0))) == []
        assert [group.amounts.events for group in store.usage(day(0))] == [2]
    again = generation(2, source="webhook", cost_source="webhook")
    write(both.off, again)
    assert ids(list(both.on.repeated(day(0)))) == ids([generation(2), again])


def test_a_bill_that_each_store_tells_once_is_found(both: Both) -> None:
    again = generation(1, source="webhook", cost_source="webhook")
    write(both.off, generation(1), generation(2))
    write(both.on, again)
    for store in (both.on, both.off):
        assert ids(list(store.repeated(day(0)))) == ids([generation(1), again])


def test_fingerprints_of_both_stores_are_added(both: Both) -> None:
    write(both.off, generation(1))
    write(both.on, generation(2), generation(3, NOON + HOUR))
    assert both.on.fingerprints(day(0)) == {
        NOON: Fingerprint(2, 40_500_000, 36),
        NOON + HOUR: Fingerprint(1, 20_250_000, 18),
    }


def test_an_event_that_both_stores_hold_is_one_in_the_fingerprints(both: Both) -> None:
    write(both.off, generation(1), generation(2, NOON + HOUR / 4), generation(3, NOON + HOUR))
    write(both.on, generation(1), generation(2, NOON + HOUR / 4))
    assert both.on.fingerprints(day(0)) == {
        NOON: Fingerprint(1, 20_250_000, 18),
        NOON + HOUR / 4: Fingerprint(1, 20_250_000, 18),
        NOON + HOUR: Fingerprint(1, 20_250_000, 18),
    }


def test_a_store_that_is_away_fails_its_days_and_no_others(both: Both) -> None:
    write(both.off, generation(1, NOON), generation(2, NOON + 3 * DAY))
    write(both.on, generation(3, NOON + DAY + HOUR), generation(4, NOON + 2 * DAY))
    both.look_at(0, 1, 2, 3)
    both.influx.is_away = True
    for number in (1, 2):
        for read in (both.off.usage, both.off.repeated, both.off.fingerprints):
            with pytest.raises(Unavailable):
                read(day(number))
        with pytest.raises(Unavailable):
            list(both.off.events(day(number)))
    for number, request in ((0, generation_id(1)), (3, None)):
        found = list(both.off.events(day(number)))
        assert len(found) == 1 and request in (None, found[0].request_id)
        assert list(both.off.repeated(day(number))) == []


def test_the_store_that_is_written_to_may_hold_everything_newer_than_was_seen(both: Both) -> None:
    write(both.off, generation(1, NOON - 9 * DAY), generation(2, NOON + 3 * DAY))
    write(both.on, generation(3, NOON))
    both.look_at(-9, 0, 3)
    both.influx.is_away = True
    assert [group.amounts.events for group in both.on.usage(day(-9))] == [1]
    with pytest.raises(Unavailable):
        both.on.usage(day(3))


def test_a_store_never_seen_that_is_written_to_is_not_taken_for_empty(both: Both) -> None:
    write(both.off, generation(1))
    both.influx.is_away = True
    with pytest.raises(Unavailable):
        both.on.fingerprints(day(0))


def test_a_store_that_was_taken_out_of_the_settings_is_missed(both: Both) -> None:
    write(both.on, generation(1))
    write(both.off, generation(2, NOON + 5 * DAY))
    both.look_at(0, 5)
    alone = CombinedStore([both.embedded], both.coverage)
    with pytest.raises(Misconfigured, match="influxdb holds events of this time"):
        alone.usage(day(0))
    assert [group.amounts.events for group in alone.usage(day(5))] == [1]


def test_what_is_known_outlives_the_process(both: Both, tmp_path: Path) -> None:
    write(both.on, generation(1))
    both.look_at(0)
    again = StoreCoverage(tmp_path / "embedded.sqlite3")
    assert again.stores_covering(day(0)) == {"influxdb"}
    assert again.stores_covering(Window(NOON + timedelta(minutes=5), NOON + HOUR)) == {"influxdb"}
    assert again.stores_covering(Window(NOON + timedelta(minutes=15), NOON + HOUR)) == set()
    assert again.stores_covering(Window(NOON - HOUR, NOON)) == set()
    assert (again.newest("influxdb"), again.newest("embedded")) == (NOON, None)
    again.close()


def test_the_other_rows_of_both_stores_are_read_once(both: Both) -> None:
    newer = host(occurred_at=NOON + HOUR)
    write(both.off, unmetered(), host(), user())
    write(both.on, unmetered(), unmetered(request_id="task:2"), newer)
    assert len(both.on.unmetered(day(0))) == 2
    assert (both.on.hosts(), both.on.users()) == ([newer], [user()])
    both.influx.is_away = True
    assert (both.on.hosts(), both.on.users()) == ([host()], [user()])


def test_an_import_is_deleted_from_both(both: Both) -> None:
    write(both.off, generation(1, source="import:a"))
    write(both.on, generation(2, source="import:a"), generation(3))
    assert both.on.delete_import("a") == 2
    assert list(both.on.events(day(0))) == [generation(3)]


def test_health_is_that_of_every_store(both: Both) -> None:
    assert both.on.health().ok
    both.influx.is_away = True
    health = both.on.health()
    assert not health.ok
    assert "influxdb: influxdb is away" in health.detail


def test_sums_of_a_bucket_that_both_stores_hold_count_each_event_once(both: Both) -> None:
    quarter = HOUR / 4
    write(both.off, generation(1), generation(2, NOON + quarter), generation(3, NOON + HOUR))
    write(both.on, generation(1), generation(4, NOON + quarter), generation(5, NOON + 2 * HOUR))
    for store in (both.on, both.off):
        assert sum(group.amounts.events for group in store.usage(day(0))) == 5
        cut = Window(NOON + quarter / 2, NOON + 2 * HOUR)
        assert sum(group.amounts.events for group in store.usage(cut)) == 3
        assert len(list(store.events(cut))) == 3
        assert sorted(each.request_id for each in store.identities(cut, answers=False)) == [
            generation(number, at).request_id
            for number, at in ((2, NOON + quarter), (4, NOON + quarter), (3, NOON + HOUR))
        ]


def test_an_event_found_by_its_id_comes_once_from_both(both: Both) -> None:
    write(both.off, generation(1), generation(2))
    write(both.on, generation(1), turn())
    found = both.on.events_about(day(0), {generation_id(1)}, {"message-1"})
    assert ids(list(found)) == ids([generation(1), generation(2), turn()])
    assert both.on.grains(day(0)) == {"generation", "turn"}


class StoppedClock:
    """A clock that a test moves."""

    time = NOON

    def now(self) -> datetime:
        return self.time


def test_a_store_that_keeps_failing_is_left_alone_for_a_moment(both: Both) -> None:
    write(both.off, generation(1))
    clock = StoppedClock()
    store = CombinedStore([both.embedded, both.influx], both.coverage, clock)
    both.influx.is_away = True
    for _ in range(5):
        assert len(list(store.events(day(0)))) == 1
    assert both.influx.asked == 3
    assert store.users() == []
    assert both.influx.asked == 3
    clock.time += timedelta(seconds=5)
    both.influx.is_away = False
    write(both.on, generation(2))
    assert len(list(store.events(day(0)))) == 2


def test_a_second_store_that_is_written_to_may_hold_what_was_not_looked_at(both: Both) -> None:
    names = {"embedded", "influxdb"}
    store = CombinedStore([both.embedded, both.influx], both.coverage, written_to=names)
    both.influx.is_away = True
    with pytest.raises(Unavailable):
        store.fingerprints(day(0))
    assert both.off.fingerprints(day(0)) == {}
