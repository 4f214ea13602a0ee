"""What Pipelines remembers between the inlet and the outlet of an answer: bounded, one hour."""

import threading
from collections import OrderedDict
from datetime import datetime, timedelta

from shared.domain.capture import Inlet
from shared.domain.openwebui import ModelRecord

INLETS_MAX = 10_000
INLET_LIFETIME = timedelta(hours=1)


class InletMemory:
    """Inlets by chat and message, model records by id; any thread may use it.

    An inlet stays after its outlet, so that a repeated outlet is read in the same way. Those that
    are given up without an outlet are handed back: something was billed there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inlets: OrderedDict[tuple[str, str], Inlet] = OrderedDict()
        self._silent: set[tuple[str, str]] = set()
        self._records: OrderedDict[str, ModelRecord] = OrderedDict()

    def remember(self, inlet: Inlet) -> list[Inlet]:
        """Remember an inlet; return those it drives out before their outlet came."""
        key = (inlet.chat_id, inlet.message_id)
        with self._lock:
            driven_out = [self._forget(key)] if key in self._inlets else []
            self._inlets[key] = inlet
            self._silent.add(key)
            while len(self._inlets) > INLETS_MAX:
                driven_out.append(self._forget(next(iter(self._inlets))))
        return [found for found in driven_out if found is not None]

    def answered(self, chat_id: str, message_id: str) -> Inlet | None:
        """Return the inlet of an outlet, which is silent no longer."""
        key = (chat_id, message_id)
        with self._lock:
            self._silent.discard(key)
            return self._inlets.get(key)

    def give_up(self, now: datetime) -> list[Inlet]:
        """Forget what is older than an hour; return the silent ones."""
        given_up = []
        with self._lock:
            for key, inlet in list(self._inlets.items()):
                if now - inlet.at < INLET_LIFETIME:
                    break
                given_up.append(self._forget(key))
        return [found for found in given_up if found is not None]

    def give_up_all(self) -> list[Inlet]:
        """Forget every inlet; return the silent ones."""
        with self._lock:
            given_up = [self._forget(key) for key in list(self._inlets)]
        return [found for found in given_up if found is not None]

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

    def _forget(self, key: tuple[str, str]) -> Inlet | None:
        """Drop an inlet; return it when nobody answered it."""
        inlet = self._inlets.pop(key)
        if key not in self._silent:
            return None
        self._silent.discard(key)
        return inlet
