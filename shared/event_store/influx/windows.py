"""How windows are said to InfluxDB, whose points tell the second of an event and no more."""

from datetime import UTC, datetime, timedelta

from shared.core.time import EPOCH
from shared.event_store.port import Window

_SECOND = timedelta(seconds=1)


def is_on_seconds(window: Window) -> bool:
    """Tell whether no event's second is cut: a point's time says no more than the second."""
    return window == outward(window)


def outward(window: Window) -> Window:
    """Widen a window to whole seconds."""
    start = window.start - (window.start - EPOCH) % _SECOND
    return Window(start, window.end + (EPOCH - window.end) % _SECOND)


def bounds(window: Window) -> dict[str, str]:
    """Return the values that a query about a window is bound to."""
    return {"start": _instant(window.start), "end": _instant(window.end)}


def _instant(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
