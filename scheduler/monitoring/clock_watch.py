"""The clock watch: compares the wall clock with a monotonic one."""

import time
from collections.abc import Callable
from datetime import timedelta

from shared.core.clock import Clock

# Compared with a sample of at most this age: an old jump that was a correction is forgotten.
_SAMPLE_SECONDS = 600.0


def seconds_since_boot() -> float:
    """Return the seconds since boot, suspended time included."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ClockWatch:
    """Detects that the wall clock was set while the process runs."""

    def __init__(self, clock: Clock, steady: Callable[[], float] = seconds_since_boot) -> None:
        self._clock = clock
        self._steady = steady
        self._sample = clock.now(), steady()

    def jump(self) -> timedelta:
        """Return by how much the clock was set in the last minutes, forward or back."""
        now, steady = self._clock.now(), self._steady()
        then, counted = self._sample
        jumped = (now - then) - timedelta(seconds=steady - counted)
        if steady - counted > _SAMPLE_SECONDS:
            self._sample = now, steady
        return jumped
