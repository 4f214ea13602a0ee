"""When to try again: waits of one delivery, and what a server asks for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRY_AFTER_MAX_SECONDS = 600.0


@dataclass(frozen=True)
class RetrySchedule:
    """The waits between the attempts of a delivery, each stretched by up to `jitter` of itself."""

    waits_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    jitter: float = 0.25

    @property
    def attempts(self) -> int:
        return len(self.waits_seconds) + 1

    @property
    def wait_bounds(self) -> list[tuple[float, float]]:
        """The shortest and the longest of each wait."""
        return [(seconds, seconds * (1 + self.jitter)) for seconds in self.waits_seconds]

    def covers(self, retry_after_seconds: float | None) -> bool:
        """Return whether the server's wait fits into a delivery; a longer one ends the delivery."""
        return (retry_after_seconds or 0.0) <= max(self.waits_seconds, default=0.0)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header (seconds or a date, RFC 9110): seconds, at most ten minutes.

    None for a header that is missing or says nothing usable.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until_date(value, now)
    if seconds != seconds:  # NaN
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)


def _seconds_until_date(value: str, now: datetime) -> float:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return float("nan")
    if date.tzinfo is None:  # "-0000" means UTC without saying so
        date = date.replace(tzinfo=UTC)
    return (date - now).total_seconds()
