"""What has begun and not ended: answers between inlet and outlet, generations between chunks."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pipelines.src.dedup_keys import continuation_began
from pipelines.src.function.answer_state import WAITS_FOR, answer_state
from pipelines.src.settings import PluginSettings
from shared.capture.events import generation_event
from shared.capture.inlet import Inlet, unmetered_row
from shared.capture.openwebui import ModelRecord, json_object, openwebui_id
from shared.core.event import UsageEvent
from shared.core.rows import Row
from shared.errors import InvalidEvent

InletKey = tuple[str, str]

INLETS_MAX = 10_000
INLET_LIFETIME = timedelta(hours=1)
# More than one host can have open; what comes beyond only expires without its last tokens.
_GROWING_MAX = 10_000


@dataclass(frozen=True)
class BookedContinuation:
    """The ids a Function left in the outlets of one message, up to this continuation and before."""

    began: datetime
    earlier: frozenset[str] | None
    latest: frozenset[str]


@dataclass(frozen=True)
class MemorySnapshot:
    """What a memory hands to the next one; `silent` are keys of inlets without an outlet."""

    inlets: list[Inlet]
    silent: list[InletKey]
    records: list[ModelRecord]


class InletMemory:
    """Inlets by chat and message, model records by id; bounded, any thread may use it.

    An inlet stays after its outlet, so that a repeated outlet is read in the same way. Inlets
    without an outlet are returned once, by `remember` or `expire`: something was billed there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inlets: OrderedDict[InletKey, Inlet] = OrderedDict()
        self._silent: OrderedDict[InletKey, Inlet] = OrderedDict()
        self._booked: OrderedDict[InletKey, BookedContinuation] = OrderedDict()
        self._totals: OrderedDict[tuple[InletKey, int], datetime] = OrderedDict()
        self._records: OrderedDict[str, ModelRecord] = OrderedDict()

    def remember(self, inlet: Inlet) -> list[Inlet]:
        """Remember an inlet; return those it evicts before their outlet came."""
        key = (inlet.chat_id, inlet.message_id)
        with self._lock:
            self._inlets.pop(key, None)
            evicted = [self._silent.pop(key, None)]
            self._inlets[key] = self._silent[key] = inlet
            while len(self._inlets) > INLETS_MAX:
                oldest, _ = self._inlets.popitem(last=False)
                evicted.append(self._silent.pop(oldest, None))
        return [found for found in evicted if found is not None]

    def complete(self, chat_id: str, message_id: str) -> Inlet | None:
        """Return the inlet of an outlet, which is silent no longer."""
        key = (chat_id, message_id)
        with self._lock:
            self._silent.pop(key, None)
            return self._inlets.get(key)

    def has_new_ids(self, inlet: Inlet, generation_ids: Sequence[str]) -> bool | None:
        """Return whether a Function booked more of this message than before this continuation.

        None when no earlier outlet had any ids: then only their times can tell.
        """
        key = (inlet.chat_id, inlet.message_id)
        with self._lock:
            booked = self._booked.pop(key, None)
            earlier: frozenset[str] | None = None
            if booked is not None:
                # A repeated outlet is compared with the continuation before it.
                earlier = booked.earlier if booked.began == inlet.at else booked.latest
            self._booked[key] = BookedContinuation(inlet.at, earlier, frozenset(generation_ids))
            if len(self._booked) > INLETS_MAX:
                self._booked.popitem(last=False)
        return None if earlier is None else not earlier.issuperset(generation_ids)

    def disambiguate(self, inlet: Inlet, total_tokens: int) -> Inlet:
        """Mark the inlet of a continued answer if an earlier one came to the same total."""
        key = ((inlet.chat_id, inlet.message_id), total_tokens)
        with self._lock:
            began = self._totals.setdefault(key, inlet.at)
            if len(self._totals) > INLETS_MAX:
                self._totals.popitem(last=False)
        return replace(inlet, is_duplicate_total=began != inlet.at)

    def expire(self, now: datetime, wait: timedelta) -> list[Inlet]:
        """Return the inlets without an outlet after `wait`; an hour later forget them.

        An answer that comes after all is until then still read as its inlet said.
        """
        lifetime = wait + INLET_LIFETIME
        with self._lock:
            lost = [key for key, inlet in self._silent.items() if now - inlet.at >= wait]
            old = [key for key, inlet in self._inlets.items() if now - inlet.at >= lifetime]
            for key in old:
                if key not in self._silent:
                    del self._inlets[key]
            return [self._silent.pop(key) for key in lost]

    def export(self) -> MemorySnapshot:
        """Give the inlets away, to the next plugin that waits for these answers."""
        with self._lock:
            snapshot = MemorySnapshot(
                inlets=list(self._inlets.values()),
                silent=list(self._silent),
                records=list(self._records.values()),
            )
            self._inlets.clear()
            self._silent.clear()
        return snapshot

    def restore(self, snapshot: MemorySnapshot) -> None:
        """Go on where another memory ended."""
        silent = set(snapshot.silent)
        for record in snapshot.records[-INLETS_MAX:]:
            self.learn(record)
        with self._lock:
            for inlet in snapshot.inlets[-INLETS_MAX:]:
                key = (inlet.chat_id, inlet.message_id)
                self._inlets[key] = inlet
                if key in silent:
                    self._silent[key] = inlet

    def learn(self, record: ModelRecord) -> None:
        """Remember a model record under exactly its id."""
        with self._lock:
            self._records[record.model_id] = record
            self._records.move_to_end(record.model_id)
            while len(self._records) > INLETS_MAX:
                self._records.popitem(last=False)

    def record(self, model_id: str) -> ModelRecord | None:
        with self._lock:
            return self._records.get(model_id)


class AnswersInFlight:
    """Answers of a Function of which no hook has shown anything yet; a stopped one may never."""

    def __init__(self) -> None:
        self.memory = InletMemory()

    def begin(self, body: dict[str, Any], metadata: dict[str, Any], inlet: Inlet) -> list[Inlet]:
        """Wait for an answer; return the inlets that it evicts, as an earlier one of its message.

        An answer of the API has no message and gets a random name. A second copy of this file
        leaves the wait to the first.
        """
        state = answer_state(metadata)
        if state[WAITS_FOR] is not None:
            return []
        if inlet.is_continued:
            began = continuation_began(json_object(body.get("metadata")), inlet.at)
            inlet = replace(inlet, at=began)
        state[WAITS_FOR] = inlet.message_id or f"api-{secrets.token_hex(12)}"
        return self.memory.remember(replace(inlet, message_id=state[WAITS_FOR]))

    def complete(self, metadata: dict[str, Any]) -> Inlet | None:
        """End the wait, something of the answer was seen; return its inlet."""
        name = openwebui_id(answer_state(metadata)[WAITS_FOR])
        return self.memory.complete(openwebui_id(metadata.get("chat_id")), name) if name else None


def unmetered_rows(
    inlets: Iterable[Inlet], settings: PluginSettings, request_id: str | None = None
) -> list[Row]:
    """Return the rows of answers or of a task, those of foreign models left out."""
    return [
        unmetered_row(inlet, settings.client_org_id, request_id)
        for inlet in inlets
        if inlet.billing != "foreign"
    ]


def expired_rows(memory: InletMemory, settings: PluginSettings, now: datetime) -> list[Row]:
    """Return the unmetered rows of the answers that did not come in time."""
    wait = timedelta(seconds=settings.answer_wait_seconds)
    return unmetered_rows(memory.expire(now, wait), settings)


class OpenGenerations:
    """What the hooks saw of open generations since the session's thread last looked.

    Hooks only add, the thread only takes, each by replacing or filling one object: no lock.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._growing: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}

    def saw(self, generation_id: str) -> None:
        """Note that a chunk of it came; costs well under a microsecond."""
        self._seen.add(generation_id)

    def grew(self, chunk: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Note a running total, with the metadata of its answer."""
        if len(self._growing) < _GROWING_MAX:
            self._growing[str(chunk.get("id"))] = (chunk, metadata)

    def take_seen(self) -> list[str]:
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
