"""What a spool counts: kept in memory until the next commit takes it to the file."""

from collections import Counter
from collections.abc import Mapping
from threading import RLock


class SpoolCounters:
    """Totals since this process began, and how much of them the file does not know yet."""

    def __init__(self) -> None:
        # Reentrant: a garbage collection in the middle may end a spool, which counts as well.
        self._lock = RLock()
        self._totals: Counter[str] = Counter()
        self._unsaved: Counter[str] = Counter()

    def add(self, reason: str, by: int = 1) -> None:
        """Count something now; the file learns of it with the next commit."""
        with self._lock:
            self._totals[reason] += by
            self._unsaved[reason] += by

    def unsaved(self) -> dict[str, int]:
        """Return what the file does not know yet."""
        with self._lock:
            return dict(self._unsaved)

    def commit(self, carried: Mapping[str, int], counted: Mapping[str, int]) -> None:
        """Take over a commit: `carried` was unsaved before, `counted` arose in the transaction."""
        with self._lock:
            self._unsaved.subtract(carried)
            self._unsaved = +self._unsaved
            self._totals.update(counted)

    def totals(self) -> dict[str, int]:
        """Return the totals of this process."""
        with self._lock:
            return dict(self._totals)
