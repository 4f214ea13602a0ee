"""What Pipelines remembers between the inlet and the outlet of an answer: bounded, for hours."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.capture.inlet import Inlet
from shared.capture.openwebui import ModelRecord

InletKey = tuple[str, str]

INLETS_MAX = 10_000
INLET_LIFETIME = timedelta(hours=1)


@dataclass(frozen=True)
class BookedPart:
    """The ids that a Function left in the outlets of one message, of this part and before it."""

    began: datetime
    earlier: frozenset[str] | None
    latest: frozenset[str]


@dataclass(frozen=True)
class Legacy:
    """What a memory leaves behind: its inlets, the keys of the silent ones, its records."""

    inlets: list[Inlet]
    silent: list[InletKey]
    records: list[ModelRecord]


class InletMemory:
    """Inlets by chat and message, model records by id; any thread may use it.

    An inlet stays after its outlet, so that a repeated outlet is read in the same way. Those that
    stay silent are handed back once: something was billed there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inlets: OrderedDict[InletKey, Inlet] = OrderedDict()
        self._silent: OrderedDict[InletKey, Inlet] = OrderedDict()
        self._booked: OrderedDict[InletKey, BookedPart] = OrderedDict()
        self._totals: OrderedDict[tuple[InletKey, int], datetime] = OrderedDict()
        self._records: OrderedDict[str, ModelRecord] = OrderedDict()

    def remember(self, inlet: Inlet) -> list[Inlet]:
        """Remember an inlet; return those it drives out before their outlet came."""
        key = (inlet.chat_id, inlet.message_id)
        with self._lock:
            self._inlets.pop(key, None)
            driven_out = [self._silent.pop(key, None)]
            self._inlets[key] = self._silent[key] = inlet
            while len(self._inlets) > INLETS_MAX:
                oldest, _ = self._inlets.popitem(last=False)
                driven_out.append(self._silent.pop(oldest, None))
        return [found for found in driven_out if found is not None]

    def answered(self, chat_id: str, message_id: str) -> Inlet | None:
        """Return the inlet of an outlet, which is silent no longer."""
        key = (chat_id, message_id)
        with self._lock:
            self._silent.pop(key, None)
            return self._inlets.get(key)

    def has_new_ids(self, inlet: Inlet, generation_ids: Sequence[str]) -> bool | None:
        """Tell whether a Function booked more of this message than its earlier parts show.

        None when no earlier part showed any: then only time can tell.
        """
        key = (inlet.chat_id, inlet.message_id)
        with self._lock:
            part = self._booked.pop(key, None)
            earlier: frozenset[str] | None = None
            if part is not None:
                # The same outlet may come again: it is compared with the part before it.
                earlier = part.earlier if part.began == inlet.at else part.latest
            self._booked[key] = BookedPart(inlet.at, earlier, frozenset(generation_ids))
            if len(self._booked) > INLETS_MAX:
                self._booked.popitem(last=False)
        return None if earlier is None else not earlier.issuperset(generation_ids)

    def disambiguate(self, inlet: Inlet, total_tokens: int) -> Inlet:
        """Return the inlet of a continued answer, as a namesake where it is one."""
        key = ((inlet.chat_id, inlet.message_id), total_tokens)
        with self._lock:
            began = self._totals.setdefault(key, inlet.at)
            if len(self._totals) > INLETS_MAX:
                self._totals.popitem(last=False)
        return replace(inlet, is_duplicate_total=began != inlet.at)

    def give_up(self, now: datetime, wait: timedelta) -> list[Inlet]:
        """Return the inlets that were silent for so long; an hour later forget them.

        Whoever answers after all is then still read as the inlet said.
        """
        lifetime = wait + INLET_LIFETIME
        with self._lock:
            lost = [key for key, inlet in self._silent.items() if now - inlet.at >= wait]
            old = [key for key, inlet in self._inlets.items() if now - inlet.at >= lifetime]
            for key in old:
                if key not in self._silent:
                    del self._inlets[key]
            return [self._silent.pop(key) for key in lost]

    def leave(self) -> Legacy:
        """Give everything away, to the next one who waits for these answers."""
        with self._lock:
            legacy = Legacy(
                inlets=list(self._inlets.values()),
                silent=list(self._silent),
                records=list(self._records.values()),
            )
            self._inlets.clear()
            self._silent.clear()
        return legacy

    def inherit(self, legacy: Legacy) -> None:
        """Go on where another memory ended."""
        silent = set(legacy.silent)
        for record in legacy.records[-INLETS_MAX:]:
            self.learn(record)
        with self._lock:
            for inlet in legacy.inlets[-INLETS_MAX:]:
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
        """Return the record of a model, None when no inlet carried it."""
        with self._lock:
            return self._records.get(model_id)
