"""Spans of days that pages compare, and the forecast of a month."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt
from statistics import fmean, stdev

from shared.core.days import ONE_DAY

# Users are listed when they used something within it.
RECENT = timedelta(days=90)
_WEEK = 7
# Weeks that a weekday's usual amount is taken from; the spread needs at least two.
WEEKS_KNOWN = 8
_WEEKS_LEAST = 2
# Four of five outcomes of a normal distribution lie within so many standard deviations.
_FOUR_OF_FIVE = 1.2816


@dataclass(frozen=True)
class Span:
    """Local days, both ends included."""

    start: date
    end: date

    @property
    def days(self) -> int:
        return (self.end - self.start).days + 1


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The end of the month in pico-USD: expected, and the bounds of an 80 % interval."""

    expected_pico: int
    low_pico: int
    high_pico: int


def month_of(day: date) -> Span:
    start = day.replace(day=1)
    return Span(start, (start + timedelta(days=31)).replace(day=1) - ONE_DAY)


def month_so_far(today: date) -> Span:
    """Return this month up to today, today included."""
    return Span(today.replace(day=1), today)


def same_span_before(today: date) -> Span:
    """Return as many first days of the month before, at most all of it."""
    before = month_of(today.replace(day=1) - ONE_DAY)
    return Span(before.start, min(before.end, before.start + (today.day - 1) * ONE_DAY))


def total(by_day: Mapping[date, int], span: Span) -> int:
    return sum(pico for day, pico in by_day.items() if span.start <= day <= span.end)


def forecast(by_day: Mapping[date, int], today: date, first_known: date) -> Forecast | None:
    """Return where the month ends if each weekday costs what it did in the weeks before.

    None while a weekday has fewer than two weeks behind it. Days without usage count as zero from
    `first_known` on. Today is at least what it has cost so far.
    """
    yesterday = Span(today.replace(day=1), today - ONE_DAY)
    expected, variance = float(total(by_day, yesterday)), 0.0
    so_far = by_day.get(today, 0)
    for number in range((month_of(today).end - today).days + 1):
        day = today + number * ONE_DAY
        known = _same_weekdays(by_day, day, today, first_known)
        if len(known) < _WEEKS_LEAST:
            return None
        usual = fmean(known)
        expected += max(usual, so_far) if day == today else usual
        variance += stdev(known) ** 2 * (1 + 1 / len(known))
    booked = total(by_day, yesterday) + so_far
    reach = _FOUR_OF_FIVE * sqrt(variance)
    return Forecast(
        expected_pico=round(expected),
        low_pico=max(booked, round(expected - reach)),
        high_pico=round(expected + reach),
    )


def _same_weekdays(
    by_day: Mapping[date, int], day: date, today: date, first_known: date
) -> Sequence[int]:
    back = (day - today).days // _WEEK + 1
    days = [day - week * _WEEK * ONE_DAY for week in range(back, back + WEEKS_KNOWN)]
    return [by_day.get(each, 0) for each in days if first_known <= each < today]
