"""Waits between attempts and the reading of Retry-After."""

from datetime import timedelta
from email.utils import format_datetime

import pytest

from shared.delivery.latency import Latencies
from shared.delivery.retry import RetrySchedule, parse_retry_after
from tests.support.builders import NOON


def test_a_delivery_makes_five_attempts_with_doubling_waits() -> None:
    schedule = RetrySchedule()
    assert schedule.attempts == 5
    assert [shortest for shortest, _ in schedule.wait_bounds] == [1, 2, 4, 8]


def test_jitter_only_lengthens_a_wait_and_by_a_quarter_at_most() -> None:
    assert RetrySchedule().wait_bounds == [(1, 1.25), (2, 2.5), (4, 5), (8, 10)]


def test_a_wait_beyond_the_longest_of_the_schedule_ends_the_delivery() -> None:
    assert RetrySchedule().covers(None)
    assert RetrySchedule().covers(8.0)
    assert not RetrySchedule().covers(8.1)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("86400", 600.0),
        ("inf", 600.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
        (format_datetime(NOON + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOON - timedelta(seconds=90), usegmt=True), 0.0),
        ("Tue, 24 Nov 2026 12:01:00 -0000", 60.0),
    ],
)
def test_it_reads_retry_after(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOON) == seconds


def test_percentiles_are_of_the_newest_durations() -> None:
    latencies = Latencies(size=100)
    assert latencies.percentile(50) is None
    for milliseconds in [9999.0] * 40 + [float(n) for n in range(1, 101)]:
        latencies.add(milliseconds)
    assert (latencies.percentile(50), latencies.percentile(99)) == (50.0, 99.0)
    assert latencies.percentile(100) == 100.0
