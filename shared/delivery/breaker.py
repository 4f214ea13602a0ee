"""The breaker: a pure state machine that stops asking a store which keeps failing."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, Self

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """Counts deliveries: opens after failures in a row, tries again later, closes after successes.

    A value; every step returns the next one. What says nothing about the store's health (a refused
    line, a wrong token) is no step.
    """

    failures_to_open: int = 3
    open_for: timedelta = timedelta(seconds=30)
    successes_to_close: int = 2
    failures: int = 0
    successes: int = 0
    opened_at: datetime | None = None

    def state(self, now: datetime) -> BreakerState:
        """Return `closed`, `open`, or `half_open` when a delivery may try whether it is over."""
        if self.opened_at is None:
            return "closed"
        # A clock that was set back must not keep the breaker open for longer than it would be.
        is_waiting = timedelta(0) <= now - self.opened_at < self.open_for
        return "open" if is_waiting else "half_open"

    def allows(self, now: datetime) -> bool:
        """Tell whether a delivery may be attempted."""
        return self.state(now) != "open"

    def after_success(self) -> Self:
        """Return the breaker after a delivery that passed."""
        if self.opened_at is None:
            return replace(self, failures=0)
        if self.successes + 1 < self.successes_to_close:
            return replace(self, successes=self.successes + 1)
        return replace(self, failures=0, successes=0, opened_at=None)

    def after_failure(self, now: datetime) -> Self:
        """Return the breaker after a delivery that failed; one failure reopens a half-open one."""
        if self.opened_at is None and self.failures + 1 < self.failures_to_open:
            return replace(self, failures=self.failures + 1)
        return replace(self, failures=0, successes=0, opened_at=now)
