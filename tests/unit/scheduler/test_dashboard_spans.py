"""Spans the overview compares, and the forecast: honest about what it does not know."""

from datetime import date, timedelta

import pytest

from scheduler.dashboard.pages import write_money, write_seconds
from scheduler.dashboard.spans import Span, forecast, month_of, same_span_before, total
from shared.core.money import from_pico

TODAY = date(2026, 11, 24)
FIRST = TODAY - timedelta(days=56)


def each_day(pico: int) -> dict[date, int]:
    return {FIRST + timedelta(days=number): pico for number in range(56)}


@pytest.mark.parametrize(
    ("today", "start", "end"),
    [
        (date(2026, 11, 24), date(2026, 10, 1), date(2026, 10, 24)),
        (date(2026, 3, 31), date(2026, 2, 1), date(2026, 2, 28)),
        (date(2026, 1, 1), date(2025, 12, 1), date(2025, 12, 1)),
    ],
)
def test_the_span_before_has_as_many_days_or_is_the_whole_month(
    today: date, start: date, end: date
) -> None:
    assert same_span_before(today) == Span(start, end)


def test_a_month_ends_on_its_last_day() -> None:
    assert month_of(date(2028, 2, 10)) == Span(date(2028, 2, 1), date(2028, 2, 29))
    assert month_of(date(2026, 12, 31)).days == 31


def test_a_steady_month_ends_where_its_days_lead_without_any_spread() -> None:
    found = forecast(each_day(10), TODAY, FIRST)
    assert found is not None
    assert (found.low_pico, found.expected_pico, found.high_pico) == (300, 300, 300)


def test_a_day_that_cost_more_than_usual_already_counts_as_it_is() -> None:
    found = forecast(each_day(10) | {TODAY: 70}, TODAY, FIRST)
    assert found is not None
    assert found.expected_pico == 360


def test_the_low_end_is_never_below_what_is_booked() -> None:
    days = {day: 1000 * (number % 9) for number, day in enumerate(each_day(0))}
    found = forecast(days | {TODAY: 50_000}, TODAY, FIRST)
    assert found is not None
    booked = total(days | {TODAY: 50_000}, Span(date(2026, 11, 1), TODAY))
    assert booked <= found.low_pico < found.expected_pico < found.high_pico


def test_two_weeks_are_needed_before_it_says_anything() -> None:
    start = TODAY - timedelta(days=13)
    days = {start + timedelta(days=number): 10 for number in range(13)}
    assert forecast(days, TODAY, start) is None
    assert forecast(each_day(10), TODAY, TODAY - timedelta(days=14)) is not None


@pytest.mark.parametrize(
    ("pico", "value", "text"),
    [
        (1_234_567_890_000_000_001, "1234567.890000000001", "1,234,567.89"),
        (0, "0", "0.00"),
        (20_250_000, "0.00002025", "0.00"),
        (-1_500_000_000_000, "-1.5", "-1.50"),
        (-1, "-0.000000000001", "-0.00"),
    ],
)
def test_an_amount_keeps_every_digit(pico: int, value: str, text: str) -> None:
    written = write_money(from_pico(pico))
    assert f'value="{value}"' in written
    assert text in written
    read = written.replace(",", "").replace('<span class="fine">', "").replace("</span>", "")
    assert from_pico(pico) == from_pico(0) + type(from_pico(0))(read.split(">")[1].split("<")[0])


def test_spans_of_time_are_short() -> None:
    assert [write_seconds(each) for each in (5, 600, 7200 * 2, 86_400 * 5)] == [
        "5 s",
        "10 min",
        "4 h",
        "5 d",
    ]
