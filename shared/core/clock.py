"""The time: a seam that tests set, and the clock of the machine."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time, so that tests can set it."""

    def now(self) -> datetime:
        """Return the current time in UTC."""


class SystemClock:
    """The time of the machine, in UTC."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)


SYSTEM_CLOCK = SystemClock()
