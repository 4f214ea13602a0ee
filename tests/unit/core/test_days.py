"""Local days: 23, 24 and 25 hours, and nothing between two of them."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.days import (
    ONE_DAY,
    day_bounds,
    days_of_span,
    local_day,
    spans_around,
    split_span,
    zone_named,
)
from shared.errors import ConfigError

HOUR = timedelta(hours=1)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
zones = st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"}))
days = st.dates(date(2018, 1, 1), date(2037, 12, 31))


def test_a_day_has_23_hours_when_clocks_go_forward_and_25_when_they_go_back() -> None:
    lengths = {
        day: end - start
        for day in (date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 24))
        for start, end in [day_bounds(day, "Europe/Warsaw")]
    }
    assert list(lengths.values()) == [23 * HOUR, 25 * HOUR, 24 * HOUR]


def test_a_midnight_that_does_not_exist_stands_for_the_change_of_the_clocks() -> None:
    # Chile goes from 24:00 to 01:00: the day has 23 hours and begins with the change.
    start, end = day_bounds(date(2026, 9, 6), "America/Santiago")
    assert (start, end - start) == (datetime(2026, 9, 6, 4, tzinfo=UTC), 23 * HOUR)


def test_a_midnight_that_comes_twice_begins_the_day_the_first_time() -> None:
    # Cuba goes from 01:00 back to 00:00 of the same day.
    start, end = day_bounds(date(2026, 11, 1), "America/Havana")
    assert (start, end - start) == (datetime(2026, 11, 1, 4, tzinfo=UTC), 25 * HOUR)


@given(zones, days)
def test_one_day_ends_where_the_next_begins_and_both_know_their_instants(
    zone: str, day: date
) -> None:
    start, end = day_bounds(day, zone)
    assert end == day_bounds(day + ONE_DAY, zone)[0]
    assert local_day(start, zone) == day
    assert local_day(end - timedelta(milliseconds=1), zone) == day
    assert local_day(end, zone) == day + ONE_DAY


@given(zones, days)
def test_every_midnight_lies_on_a_quarter_of_an_hour(zone: str, day: date) -> None:
    start, _ = day_bounds(day, zone)
    assert start.timestamp() % 900 == 0


def test_a_span_shares_instants_with_the_days_it_touches() -> None:
    midnight = day_bounds(date(2026, 11, 24), "Europe/Warsaw")[0]
    around = days_of_span(midnight - HOUR, midnight + HOUR, "Europe/Warsaw")
    before = days_of_span(midnight - HOUR, midnight, "Europe/Warsaw")
    assert around == [date(2026, 11, 23), date(2026, 11, 24)]
    assert before == [date(2026, 11, 23)]
    assert days_of_span(midnight, midnight, "Europe/Warsaw") == []


@given(st.lists(st.integers(-50, 50)))
def test_the_parts_of_a_span_add_up_to_it(minutes: list[int]) -> None:
    start, end = NOON - timedelta(minutes=30), NOON + timedelta(minutes=30)
    cuts = [NOON + timedelta(minutes=minute) for minute in minutes]
    parts = split_span(start, end, cuts)
    assert (parts[0][0], parts[-1][1]) == (start, end)
    assert all(left[1] == right[0] for left, right in pairwise(parts))
    assert {part[0] for part in parts[1:]} == {cut for cut in cuts if start < cut < end}


def test_spans_that_touch_become_one() -> None:
    instants = [NOON + 3 * HOUR, NOON, NOON + HOUR / 2]
    assert spans_around(instants, before=HOUR / 4, after=HOUR) == [
        (NOON - HOUR / 4, NOON + 3 * HOUR / 2),
        (NOON + 3 * HOUR - HOUR / 4, NOON + 4 * HOUR),
    ]
    assert spans_around([], before=HOUR, after=HOUR) == []


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../../etc/passwd"])
def test_an_unknown_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="time_zone"):
        zone_named(name)
