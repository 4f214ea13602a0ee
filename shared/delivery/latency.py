"""Latencies: the newest durations of one kind of work and their percentiles."""


class Latencies:
    """The newest `size` durations in milliseconds; any thread may add or ask."""

    def __init__(self, size: int = 1024) -> None:
        self._size = size
        self._values: list[float] = []
        self._next = 0

    def add(self, milliseconds: float) -> None:
        """Remember a duration, in place of the oldest when there are too many."""
        if len(self._values) < self._size:
            self._values.append(milliseconds)
        else:
            self._values[self._next % self._size] = milliseconds
        self._next += 1

    def percentile(self, percent: float) -> float | None:
        """Return the duration that `percent` of them do not exceed; None without any."""
        values = sorted(self._values)
        if not values:
            return None
        rank = -(-len(values) * percent // 100)
        return values[max(int(rank), 1) - 1]
