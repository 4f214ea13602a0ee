"""The clock of the machine."""

from datetime import UTC, datetime


class SystemClock:
    """The time of the machine, in UTC."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)


SYSTEM_CLOCK = SystemClock()
