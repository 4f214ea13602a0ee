"""A spool, a sink that answers as it is told, and the delivery between them."""

from collections.abc import Callable, Iterator, Sequence

from shared.delivery.delivery import Delivery, DeliveryPolicy
from shared.delivery.port import WriteResult
from shared.errors import (
    DeliveryError,
)
from shared.spool.port import SpooledRow
from tests.support.builders import generation_id, settled
from tests.support.spools import MemorySpool, RecordedStop, SetClock

Answer = DeliveryError | None
Script = Callable[[Sequence[SpooledRow]], Answer]


class ScriptedSink:
    """A sink that stores rows unless the script has an error for the batch."""

    name = "scripted"

    def __init__(self, script: Script = lambda rows: None) -> None:
        self.script = script
        self.stored: dict[str, int] = {}
        self.sizes: list[int] = []

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        return rows

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        self.sizes.append(len(rows))
        if error := self.script(rows):
            raise error
        for row in rows:
            self.stored[row.event_id] = self.stored.get(row.event_id, 0) + 1
        return WriteResult(accepted=list(range(len(rows))))


class Scene:
    """A spool, a sink, a clock and the delivery between them."""

    def __init__(self, rows: int, script: Script, policy: DeliveryPolicy) -> None:
        self.clock = SetClock()
        self.stop = RecordedStop(self.clock)
        events = [settled(request_id=generation_id(number)) for number in range(rows)]
        self.spool = MemorySpool(events)
        self.ids = [event.event_id for event in events]
        self.sink = ScriptedSink(script)
        self.delivery = Delivery(self.spool, self.sink, "me", self.clock, policy, self.stop)


def scene(
    rows: int = 3, script: Script = lambda batch: None, policy: DeliveryPolicy | None = None
) -> Scene:
    return Scene(rows, script, policy or DeliveryPolicy())


def always(error: DeliveryError) -> Script:
    return lambda rows: error


def in_turn(*answers: Answer) -> Script:
    """Give these answers, then take everything."""
    left: Iterator[Answer] = iter(answers)
    return lambda rows: next(left, None)


def refuses(error: DeliveryError, *row_ids: int) -> Script:
    return lambda rows: error if {row.row_id for row in rows} & set(row_ids) else None
