"""A spool is read and marked beside the sending, one batch ahead and no further."""

import logging
import threading
from collections.abc import Sequence

import pytest

from shared.delivery.delivery import DeliveryPolicy
from shared.errors import BatchRefused, SpoolError, StoreFault, Unavailable
from shared.spool.port import SpooledRow
from tests.support.delivery_scene import Answer, Scene, always, in_turn, scene

PAIRS = DeliveryPolicy(batch_rows=2)
SECONDS = 10.0


class Watched:
    """What the spool of a scene was asked beside the writes to the sink; `fails` breaks marks."""

    def __init__(self, at: Scene) -> None:
        self.has_read, self.has_marked = threading.Event(), threading.Event()
        self.fails = False
        self.threads: set[str] = set()
        self._take, self._acknowledge = at.spool.take, at.spool.acknowledge
        at.spool.take, at.spool.acknowledge = self.take, self.acknowledge  # type: ignore[method-assign]

    def take(self, limit: int, after_row_id: int = 0) -> list[SpooledRow]:
        self.threads.add(threading.current_thread().name)
        rows = self._take(limit, after_row_id)
        self.has_read.set()
        return rows

    def acknowledge(
        self,
        accepted: Sequence[int] = (),
        rejected: Sequence[tuple[int, str]] = (),
        kept: Sequence[int] = (),
    ) -> None:
        if self.fails:
            raise SpoolError("the disk is gone")
        self._acknowledge(accepted, rejected, kept)
        self.has_marked.set()


def test_the_next_batch_is_read_and_the_last_one_marked_while_a_batch_is_sent() -> None:
    at = scene(rows=6, policy=PAIRS)
    watched = Watched(at)
    seen: list[tuple[bool, bool]] = []

    def look(rows: Sequence[SpooledRow]) -> None:
        is_first = not seen
        reads = watched.has_read.wait(SECONDS)
        marks = False if is_first else watched.has_marked.wait(SECONDS)
        seen.append((reads, marks))
        watched.has_read.clear()
        watched.has_marked.clear()

    at.sink.script = look
    watched.has_read.clear()
    assert at.delivery.run_once().accepted == 6
    assert seen == [(True, False), (True, True), (True, True)]
    assert at.spool.accepted == [1, 2, 3, 4, 5, 6]


def test_a_queue_of_one_small_batch_needs_no_second_thread() -> None:
    at = scene(rows=1, policy=PAIRS)
    watched = Watched(at)
    at.delivery.run_once()
    assert watched.threads == {threading.current_thread().name}


def test_no_thread_is_left_when_a_run_has_ended() -> None:
    at = scene(rows=6, policy=PAIRS, script=in_turn(None, *[Unavailable("away")] * 5))
    at.delivery.run_once()
    assert [one for one in threading.enumerate() if one.name == "usage-delivery-ahead"] == []
    assert at.spool.accepted == [1, 2]


def test_what_the_store_took_is_marked_also_when_the_next_batch_fails() -> None:
    at = scene(rows=6, policy=PAIRS, script=in_turn(None, None, *[Unavailable("away")] * 5))
    result = at.delivery.run_once()
    assert (result.accepted, result.kept, result.state) == (4, 2, "unavailable")
    assert at.spool.accepted == [1, 2, 3, 4]
    assert at.spool.kept == [5, 6]


def test_a_stop_leaves_no_mark_behind() -> None:
    at = scene(rows=6, policy=PAIRS)
    at.sink.script = lambda rows: at.stop.set() if rows[0].row_id == 3 else None
    at.delivery.run_once()
    assert at.spool.accepted == [1, 2, 3, 4]
    assert at.sink.sizes == [2, 2]


def test_trouble_of_the_disk_ends_the_run_and_costs_no_row() -> None:
    at = scene(rows=6, policy=PAIRS)
    watched = Watched(at)
    watched.fails = True
    with pytest.raises(SpoolError, match="the disk is gone"):
        at.delivery.run_once()
    assert [row.row_id for row in at.spool.queue] == [1, 2, 3, 4, 5, 6]
    assert at.sink.sizes == [2, 2]
    watched.fails = False
    at.delivery.run_once()
    assert at.spool.queue == []
    assert at.sink.stored == dict.fromkeys(at.ids, 1)


def test_rows_that_went_ahead_as_a_witness_are_not_sent_once_more() -> None:
    def answer(rows: Sequence[SpooledRow]) -> Answer:
        if len(at.sink.sizes) <= 5:
            return StoreFault("500")
        return None

    at = scene(rows=6, policy=PAIRS, script=answer)
    result = at.delivery.run_once()
    assert result.accepted == 6
    assert at.sink.stored == dict.fromkeys(at.ids, 1)


def test_a_refused_row_is_marked_before_rows_are_read_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    at = scene(rows=5, policy=PAIRS)
    refusal = BatchRefused("unable to parse")
    at.sink.script = lambda rows: refusal if any(row.row_id == 3 for row in rows) else None
    result = at.delivery.run_once()
    assert (result.accepted, result.rejected) == (4, 1)
    assert at.spool.dead == {3: "unable to parse"}
    assert sorted(at.spool.accepted) == [1, 2, 4, 5]


def test_a_store_that_was_ill_is_not_read_ahead_of() -> None:
    at = scene(rows=900, policy=DeliveryPolicy(batch_rows=400))
    at.sink.script = always(Unavailable("away"))
    at.delivery.run_once()
    watched = Watched(at)
    at.sink.script = lambda rows: watched.threads.clear() if len(rows) > 200 else None
    at.spool.queue = at.spool.queue[:300]
    at.delivery.run_once()
    assert watched.threads == {threading.current_thread().name}
