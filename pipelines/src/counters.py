"""Counters and complaints of one plugin: every refusal by reason, every failure said once."""

import logging
import threading
import time

logger = logging.getLogger("owui_usage")

_SILENCE_SECONDS = 20.0
_COMPLAINTS_MAX = 256


class Counters:
    """Totals since the plugin was loaded, by reason; any thread may count.

    `complain` counts and logs, the same reason at most every 20 s: an outage must not fill the
    host's disk. Texts name what happened, never what a person wrote.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, int] = {}
        self._said_at: dict[str, float] = {}

    def count(self, reason: str) -> None:
        """Count once more."""
        with self._lock:
            self._totals[reason] = self._totals.get(reason, 0) + 1

    def complain(self, reason: str, detail: object) -> None:
        """Count, and log unless the same was said a moment ago."""
        self.count(reason)
        now = time.monotonic()
        with self._lock:
            if now - self._said_at.get(reason, float("-inf")) < _SILENCE_SECONDS:
                return
            if len(self._said_at) >= _COMPLAINTS_MAX:
                self._said_at.clear()
            self._said_at[reason] = now
        logger.warning("%s: %s", reason, detail)

    def totals(self) -> dict[str, int]:
        """Return all totals."""
        with self._lock:
            return dict(self._totals)
