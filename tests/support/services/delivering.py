"""A delivery to a server under test: real requests, waits that take no time."""

from shared.delivery.delivery import Delivery, DeliveryPolicy
from shared.event_store.influx.write import InfluxSettings, InfluxSink
from tests.support.builders import generation_id, settled
from tests.support.spools import MemorySpool, RecordedStop, SetClock


class Delivering:
    """A spool of numbered events and their delivery to an address, its waits taking no time."""

    def __init__(self, settings: InfluxSettings, rows: int = 8) -> None:
        self.clock = SetClock()
        self.stop = RecordedStop(self.clock)
        self.spool = MemorySpool(
            [settled(request_id=generation_id(n), chat_id=f"chat {n}") for n in range(1, rows + 1)]
        )
        self.sink = InfluxSink(settings)
        self.delivery = Delivery(
            self.spool, self.sink, "me", self.clock, DeliveryPolicy(batch_rows=4), self.stop
        )


def numbers(lines: list[str]) -> list[int]:
    """Return the numbers of the events that these lines hold."""
    return sorted(int(line.split('chat_id="chat ')[1].split('"')[0]) for line in lines)
