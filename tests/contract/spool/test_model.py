"""A spool against a model of it: whatever the order of events, deliveries and restarts."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.core.event import UsageEvent
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool
from tests.support.builders import generation_id, pending, settled
from tests.support.spools import SetClock

NUMBERS = st.integers(1, 6)


@st.composite
def observations(draw: st.DrawFn) -> UsageEvent:
    """Return an observation of one of a few bills: pending, settled, or above the limit."""
    request_id = generation_id(draw(NUMBERS))
    kind = draw(st.sampled_from(["pending", "settled", "settled", "suspicious"]))
    if kind == "pending":
        return pending(request_id=request_id)
    return settled(request_id=request_id, cost_usd="1" if kind == "settled" else "20000")


class SpoolModel(RuleBasedStateMachine):
    """Every observation is in exactly one place, from its first put to the end of time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.queue: list[str] = []
        self.aside: set[str] = set()
        self.delivered: list[str] = []
        self.open: set[str] = set()
        self.clock = SetClock()
        self.spool = self.opened()

    def opened(self) -> SqliteSpool:
        path = Path(self.folder.name) / "function.sqlite3"
        return SqliteSpool(path, settings=SpoolSettings(synchronous="NORMAL"), clock=self.clock)

    @rule(events=st.lists(observations(), min_size=1, max_size=4))
    def put(self, events: list[UsageEvent]) -> None:
        outcomes = self.spool.put(events).result(20)
        for event, outcome in zip(events, outcomes, strict=True):
            assert outcome == self.booked(event)

    def booked(self, event: UsageEvent) -> str:
        """Book an event in the model and return the outcome that it must have."""
        self.open.discard(event.request_id)
        if event.event_id in {*self.queue, *self.aside, *self.delivered}:
            return "duplicate"
        if event.cost_usd is not None and event.cost_usd > 10_000:
            self.aside.add(event.event_id)
            return "quarantined"
        self.queue.append(event.event_id)
        return "queued"

    @rule(number=NUMBERS)
    def track(self, number: int) -> None:
        event = pending(request_id=generation_id(number))
        kept = {row.request_id for row in self.spool.dead_letters()}
        waiting = {row.json for row in self.spool.take(100)}
        self.spool.track(event)
        if event.request_id not in kept and not any(event.request_id in row for row in waiting):
            self.open.add(event.request_id)

    @rule()
    def expire(self) -> None:
        self.clock.move(200)
        assert self.spool.lease("model", 30)
        assert self.spool.expire_open(self.clock.now(), 100) == len(self.open)
        for request_id in sorted(self.open):
            self.booked(pending(request_id=request_id))

    @rule(data=st.data(), limit=st.integers(1, 5))
    def deliver(self, data: st.DataObject, limit: int) -> None:
        rows = self.spool.take(limit)
        fates = st.sampled_from(["accepted", "rejected", "kept"])
        ends = [(row, data.draw(fates)) for row in rows]
        self.spool.acknowledge(
            accepted=[row.row_id for row, fate in ends if fate == "accepted"],
            rejected=[(row.row_id, "no") for row, fate in ends if fate == "rejected"],
            kept=[row.row_id for row, fate in ends if fate == "kept"],
        )
        for row, fate in ends:
            if fate != "kept":
                self.queue.remove(row.event_id)
            if fate == "accepted":
                self.delivered.append(row.event_id)
            if fate == "rejected":
                self.aside.add(row.event_id)

    @rule()
    def replay(self) -> None:
        assert self.spool.replay() == len(self.aside)
        self.queue += sorted(self.aside)
        self.aside.clear()

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.clock.move(200)  # the old owner is silent long enough for the new one
        self.spool = self.opened()

    @invariant()
    def nothing_is_lost_and_nothing_doubled(self) -> None:
        assert sorted(row.event_id for row in self.spool.take(100)) == sorted(self.queue)
        status = self.spool.status()
        assert status.dead_letters + status.quarantined == len(self.aside)
        assert len(set(self.delivered)) == len(self.delivered)

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()


TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
