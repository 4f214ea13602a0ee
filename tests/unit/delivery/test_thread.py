"""The delivery thread starts late, ends early and never outlives its owner."""

import gc
import threading
from collections.abc import Callable, Sequence

import pytest

from shared.delivery.delivery import Delivery, DeliveryPolicy
from shared.delivery.port import WriteResult
from shared.delivery.retry import RetrySchedule
from shared.delivery.thread import DeliveryThread
from shared.errors import SpoolError, Unavailable
from shared.spool.port import SpooledRow
from tests.support.builders import generation_id, settled
from tests.support.spools import MemorySpool, SetClock

SECONDS = 10.0  # no test waits so long; it is when a broken one gives up


class SignallingSink:
    """A sink that says when it was asked and answers as it is told."""

    name = "signalling"

    def __init__(self, answer: Callable[[], None] = lambda: None) -> None:
        self.answer = answer
        self.asked = threading.Event()
        self.threads: set[str] = set()

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        return rows

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        self.threads.add(threading.current_thread().name)
        self.asked.set()
        self.answer()
        return WriteResult(accepted=list(range(len(rows))))


def build(
    spool: MemorySpool, sink: SignallingSink, interval_seconds: float = 0.001
) -> tuple[DeliveryThread, threading.Event]:
    stop = threading.Event()
    hour = DeliveryPolicy(schedule=RetrySchedule(waits_seconds=(3600.0,)))
    delivery = Delivery(spool, sink, "me", SetClock(), hour, stop)
    return DeliveryThread(delivery, stop, interval_seconds), stop


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "usage-delivery"]


def go_away() -> None:
    raise Unavailable("away")


def test_no_thread_exists_before_the_first_start() -> None:
    build(MemorySpool(), SignallingSink())
    assert running() == []


def test_it_delivers_from_one_thread_however_often_it_is_started() -> None:
    spool, sink = MemorySpool([settled()]), SignallingSink()
    thread, _ = build(spool, sink)
    for _ in range(5):
        thread.start()
    assert sink.asked.wait(SECONDS)
    assert len(running()) == 1
    assert thread.stop(SECONDS)
    assert spool.accepted == [1]
    assert sink.threads == {"usage-delivery"}
    assert running() == []


def test_it_releases_the_lease_when_it_stops() -> None:
    spool, sink = MemorySpool([settled()]), SignallingSink()
    thread, _ = build(spool, sink)
    thread.start()
    assert sink.asked.wait(SECONDS)
    assert thread.stop(SECONDS)
    assert spool.holder is None


def test_a_stopped_thread_does_not_start_again() -> None:
    thread, _ = build(MemorySpool(), SignallingSink())
    assert thread.stop()
    thread.start()
    assert running() == []


def test_a_long_wait_between_attempts_ends_at_stop() -> None:
    spool, sink = MemorySpool([settled()]), SignallingSink(go_away)
    thread, _ = build(spool, sink)
    thread.start()
    assert sink.asked.wait(SECONDS)
    assert thread.stop(SECONDS)
    assert len(spool.queue) == 1


def test_it_ends_when_its_owner_is_forgotten_even_in_the_middle_of_a_wait() -> None:
    sink = SignallingSink(go_away)
    thread, stop = build(MemorySpool([settled()]), sink)
    thread.start()
    assert sink.asked.wait(SECONDS)
    [worker] = running()
    del thread
    gc.collect()
    assert stop.is_set()
    worker.join(SECONDS)
    assert not worker.is_alive()


def test_it_goes_on_after_an_error_nobody_foresaw_and_logs_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = 0

    def fail_three_times() -> None:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise ZeroDivisionError("surprise")
        done.set()

    done = threading.Event()
    spool = MemorySpool([settled(request_id=generation_id(1))])
    thread, _ = build(spool, SignallingSink(fail_three_times))
    thread.start()
    assert done.wait(SECONDS)
    assert thread.stop(SECONDS)
    assert spool.accepted == [1]
    assert caplog.text.count("delivery failed: ZeroDivisionError: surprise") == 1


def test_a_lease_that_cannot_be_given_back_is_left_to_expire(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, sink = MemorySpool([settled()]), SignallingSink()

    def fail(owner: str) -> None:
        raise SpoolError("disk full")

    monkeypatch.setattr(spool, "release", fail)
    thread, _ = build(spool, sink)
    thread.start()
    assert sink.asked.wait(SECONDS)
    assert thread.stop(SECONDS)
    assert "the delivery lease was left to expire: disk full" in caplog.text
