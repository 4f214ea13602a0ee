"""Generations that have begun and not ended, as the hooks of this process see them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.capture.events import generation_event
from shared.core.event import UsageEvent
from shared.errors import InvalidEvent

# More than one host can have open; what comes beyond only expires without its last tokens.
_GROWING_MAX = 10_000


class OpenGenerations:
    """What the hooks saw since the recording's thread last looked.

    Hooks only add, the thread only takes, each by replacing or filling one object: no lock.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._growing: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}

    def saw(self, generation_id: str) -> None:
        """Note that a chunk of it came; costs well under a microsecond."""
        self._seen.add(generation_id)

    def grew(self, chunk: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Note a running total, the metadata being those of its answer."""
        if len(self._growing) < _GROWING_MAX:
            self._growing[str(chunk.get("id"))] = (chunk, metadata)

    def take_seen(self) -> list[str]:
        """Return what was seen since the last call."""
        seen, self._seen = self._seen, set()
        return list(seen)

    def take_grown(self, client_org_id: str, now: datetime) -> list[UsageEvent]:
        """Return pending events with the tokens of the running totals since the last call."""
        growing, self._growing = self._growing, {}
        events = []
        for chunk, metadata in growing.values():
            try:
                event, _ = generation_event(chunk, metadata, client_org_id, now)
            except InvalidEvent:
                continue
            unknown = {"cost_usd": None, "upstream_cost_usd": None, "cost_source": "none"}
            events.append(event.model_copy(update=unknown))
        return events
