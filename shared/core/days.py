"""Local days: which span of UTC a calendar day is, and what splits it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.errors import ConfigError

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, order=True)
class ZoneDay:
    """A local day of a zone: the unit in which events are read and summaries replaced."""

    local_date: date
    time_zone: str

    def __str__(self) -> str:
        return f"{self.local_date} in {self.time_zone}"


def zone_named(name: str) -> ZoneInfo:
    """Raises ConfigError for a name that the IANA database does not have."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError("time_zone", name, "is no time zone of the IANA database") from error


def day_start(day: date, zone: str) -> datetime:
    """Return the first instant of a local day, in UTC.

    A midnight that a clock change skips stands for the instant of the change, one that comes twice
    for its first time: so one day ends where the next begins.
    """
    return datetime.combine(day, time.min, tzinfo=zone_named(zone)).astimezone(UTC)


def day_bounds(day: date, zone: str) -> tuple[datetime, datetime]:
    """Return the half-open span of a local day in UTC: 24 hours, or 23 or 25 when clocks change."""
    return day_start(day, zone), day_start(day + ONE_DAY, zone)


def local_day(instant: datetime, zone: str) -> date:
    return instant.astimezone(zone_named(zone)).date()


def days_of_span(start: datetime, end: datetime, zone: str) -> list[date]:
    """Return the local days that share at least one instant with a half-open span of UTC."""
    if end <= start:
        return []
    first = local_day(start, zone)
    last = local_day(end - timedelta(microseconds=1), zone)
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def split_span(
    start: datetime, end: datetime, instants: Iterable[datetime]
) -> list[tuple[datetime, datetime]]:
    """Cut a half-open span at every instant strictly inside it; the parts add up to the whole."""
    cuts = sorted({instant for instant in instants if start < instant < end})
    return list(zip([start, *cuts], [*cuts, end], strict=True))


def spans_around(
    instants: Iterable[datetime], before: timedelta, after: timedelta
) -> list[tuple[datetime, datetime]]:
    """Return the half-open spans around instants, those that touch as one."""
    spans: list[tuple[datetime, datetime]] = []
    for instant in sorted(instants):
        start, end = instant - before, instant + after
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans
