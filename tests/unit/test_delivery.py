"""Delivery empties a spool, waits where waiting helps, and gives up single rows only."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest

from shared.delivery import Delivery, DeliveryPolicy
from shared.errors import (
    BatchRefused,
    DeliveryError,
    Misconfigured,
    StoreFault,
    TooLarge,
    Unavailable,
)
from shared.ports import SpooledRow, WriteResult
from tests.builders import generation_id, settled
from tests.spools import MemorySpool, RecordedStop, SetClock

Answer = DeliveryError | None
Script = Callable[[Sequence[SpooledRow]], Answer]


class ScriptedSink:
    """A sink that stores rows unless the script has an error for the batch."""

    name = "scripted"

    def __init__(self, script: Script = lambda rows: None) -> None:
        self.script = script
        self.stored: dict[str, int] = {}
        self.sizes: list[int] = []

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


def test_it_empties_the_spool_in_batches_of_the_oldest_rows() -> None:
    at = scene(rows=7, policy=DeliveryPolicy(batch_rows=3))
    result = at.delivery.run_once()
    assert (result.accepted, result.rejected, result.kept) == (7, 0, 0)
    assert at.sink.sizes == [3, 3, 1]
    assert at.spool.accepted == [1, 2, 3, 4, 5, 6, 7]
    assert at.sink.stored == dict.fromkeys(at.ids, 1)
    assert result.state == "idle"


def test_a_batch_ends_before_it_grows_too_large() -> None:
    size = len(settled(request_id=generation_id(0)).to_json())
    at = scene(rows=7, policy=DeliveryPolicy(batch_bytes=2 * size))
    at.delivery.run_once()
    assert at.sink.sizes == [2, 2, 2, 1]


def test_a_row_larger_than_a_batch_travels_alone() -> None:
    at = scene(rows=2, policy=DeliveryPolicy(batch_bytes=1))
    assert at.delivery.run_once().accepted == 2
    assert at.sink.sizes == [1, 1]


def test_it_leaves_a_spool_alone_that_another_process_delivers() -> None:
    at = scene()
    at.spool.holder = "another"
    assert at.delivery.run_once().state == "standby"
    assert at.sink.sizes == []
    at.spool.holder = None
    assert at.delivery.run_once().accepted == 3


def test_it_renews_the_lease_when_half_of_it_is_over() -> None:
    at = scene(rows=6, policy=DeliveryPolicy(batch_rows=1, lease_seconds=60))
    at.sink.script = lambda rows: at.clock.move(10)
    assert at.delivery.run_once().accepted == 6
    assert at.spool.leases == 2


def test_a_clock_that_was_set_back_renews_the_lease() -> None:
    at = scene()
    at.delivery.run_once()
    at.clock.move(-3600)
    at.delivery.run_once()
    assert at.spool.leases == 2


def test_it_stops_sending_when_the_lease_is_lost_between_two_batches() -> None:
    at = scene(rows=6, policy=DeliveryPolicy(batch_rows=2))

    def lose_the_lease(rows: Sequence[SpooledRow]) -> None:
        at.clock.move(61)
        at.spool.holder = "another"

    at.sink.script = lose_the_lease
    result = at.delivery.run_once()
    assert (result.state, result.accepted) == ("standby", 2)
    assert at.sink.sizes == [2]


def test_it_waits_longer_and_longer_for_a_store_that_is_away() -> None:
    at = scene(script=in_turn(*[Unavailable("away")] * 4))
    assert at.delivery.run_once().accepted == 3
    bounds = zip(at.stop.waits, (1, 2, 4, 8), strict=True)
    assert all(plain <= wait <= plain * 1.25 for wait, plain in bounds)


def test_it_keeps_the_batch_when_five_attempts_failed() -> None:
    at = scene(script=always(Unavailable("connection refused")))
    result = at.delivery.run_once()
    assert at.sink.sizes == [3] * 5
    assert (result.state, result.message) == ("unavailable", "connection refused")
    assert at.spool.kept == [1, 2, 3]
    assert len(at.spool.queue) == 3


def test_three_failed_deliveries_open_the_breaker_for_thirty_seconds() -> None:
    at = scene(script=always(Unavailable("away")))
    for _ in range(3):
        at.delivery.run_once()
    assert at.delivery.status().breaker == "open"
    attempts = len(at.sink.sizes)
    at.clock.move(29)
    assert at.delivery.run_once().state == "breaker_open"
    assert len(at.sink.sizes) == attempts
    at.clock.move(1)
    at.sink.script = in_turn()
    assert at.delivery.run_once().accepted == 3
    assert at.delivery.status().breaker == "half_open"
    at.spool.put([settled(request_id=generation_id(99))]).result()
    at.delivery.run_once()
    assert at.delivery.status().breaker == "closed"


def test_it_obeys_a_short_wait_that_the_server_asks_for() -> None:
    at = scene(script=in_turn(Unavailable("busy", retry_after_seconds=7.0)))
    assert at.delivery.run_once().accepted == 3
    assert at.stop.waits == [7.0]


def test_it_sends_nothing_before_a_long_wait_is_over() -> None:
    at = scene(script=in_turn(Unavailable("busy", retry_after_seconds=500.0)))
    assert at.delivery.run_once().state == "unavailable"
    at.clock.move(499)
    assert at.delivery.run_once().kept == 0
    assert at.sink.sizes == [3]
    at.clock.move(1)
    assert at.delivery.run_once().accepted == 3


def test_a_clock_that_was_set_back_does_not_prolong_a_wait() -> None:
    at = scene(script=in_turn(Unavailable("busy", retry_after_seconds=500.0)))
    at.delivery.run_once()
    at.clock.move(-86_400)
    assert at.delivery.run_once().accepted == 3


@pytest.mark.parametrize("poisoned", [(1,), (8,), (3, 4), (1, 5, 8), tuple(range(1, 9))])
def test_only_the_refused_rows_become_dead_letters(poisoned: tuple[int, ...]) -> None:
    at = scene(rows=8, script=refuses(BatchRefused("unable to parse"), *poisoned))
    result = at.delivery.run_once()
    assert at.spool.dead == dict.fromkeys(poisoned, "unable to parse")
    assert sorted(at.spool.accepted) == [n for n in range(1, 9) if n not in poisoned]
    assert (result.state, result.rejected) == ("idle", len(poisoned))
    assert at.stop.waits == []


def test_a_refusal_says_nothing_about_the_health_of_the_store() -> None:
    at = scene(rows=4, script=refuses(BatchRefused("bad"), 2))
    at.delivery.run_once()
    assert at.delivery.status().breaker == "closed"
    for number in range(5):
        at.spool.put([settled(request_id=generation_id(50 + number))]).result()
        at.sink.script = always(BatchRefused("bad"))
        at.delivery.run_once()
    assert at.delivery.status().breaker == "closed"


def test_the_words_of_the_server_are_cut_to_a_readable_length() -> None:
    at = scene(rows=1, script=always(BatchRefused("x" * 10_000)))
    at.delivery.run_once()
    assert at.spool.dead == {1: "x" * 500}


def test_a_batch_that_is_too_large_is_halved_until_it_fits() -> None:
    at = scene(rows=8, script=lambda rows: TooLarge("413") if len(rows) > 2 else None)
    assert at.delivery.run_once().accepted == 8
    assert at.sink.sizes == [8, 4, 2, 2, 4, 2, 2]


def test_what_ended_before_the_store_went_away_is_settled() -> None:
    refused = BatchRefused("bad")
    away = [Unavailable("away")] * 5
    at = scene(rows=4, script=in_turn(refused, None, *away))
    result = at.delivery.run_once()
    assert (result.accepted, result.kept, result.state) == (2, 2, "unavailable")
    assert at.spool.accepted == [1, 2]


def test_a_wrong_token_keeps_everything_and_is_probed_once_a_minute() -> None:
    at = scene(script=always(Misconfigured("401: the token is wrong")))
    result = at.delivery.run_once()
    assert (result.state, result.message) == ("misconfigured", "401: the token is wrong")
    assert at.sink.sizes == [3]
    assert at.spool.holder is None  # another process may deliver if it can
    at.clock.move(59)
    at.delivery.run_once()
    assert at.sink.sizes == [3]
    at.clock.move(1)
    at.sink.script = in_turn()
    assert at.delivery.run_once().accepted == 3
    assert at.delivery.status().state == "idle"


def test_a_wrong_token_leaves_the_breaker_alone() -> None:
    at = scene(script=always(Misconfigured("401")))
    for _ in range(5):
        at.delivery.run_once()
        at.clock.move(60)
    assert at.delivery.status().breaker == "closed"


@pytest.mark.parametrize("package", ["tenacity", "influxdb_client"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = scene()

    def needs_influxdb_client(rows: Sequence[SpooledRow]) -> None:
        __import__("influxdb_client")

    at.sink.script = needs_influxdb_client
    monkeypatch.setitem(sys.modules, package, None)
    result = at.delivery.run_once()
    assert result.state == "misconfigured"
    assert f"{package} is missing here: pip install influxdb-client tenacity" in result.message
    assert len(at.spool.queue) == 3


def faulty(*row_ids: int) -> Script:
    return refuses(StoreFault("500: internal error"), *row_ids)


def test_a_row_that_alone_makes_the_store_fail_becomes_a_dead_letter() -> None:
    at = scene(rows=12, script=faulty(3), policy=DeliveryPolicy(batch_rows=4))
    at.delivery.run_once()
    assert at.spool.dead == {3: "500: internal error"}
    assert sorted(at.spool.accepted) == [n for n in range(1, 13) if n != 3]
    assert at.delivery.status().breaker == "closed"


def test_a_failing_batch_waits_while_no_other_batch_tells_who_is_ill() -> None:
    at = scene(rows=4, script=faulty(3))
    assert at.delivery.run_once().state == "unavailable"
    assert (at.spool.dead, at.spool.accepted) == ({}, [])


def test_a_store_that_fails_at_everything_makes_no_dead_letters() -> None:
    at = scene(rows=12, script=always(StoreFault("500")), policy=DeliveryPolicy(batch_rows=4))
    for _ in range(3):
        assert at.delivery.run_once().accepted == 0
    assert (at.spool.dead, at.delivery.status().breaker) == ({}, "open")


def test_a_store_that_falls_ill_while_rows_are_isolated_makes_no_dead_letters() -> None:
    calls: list[int] = []

    def passes_only_the_second_batch(rows: Sequence[SpooledRow]) -> Answer:
        calls.append(len(rows))
        return None if len(calls) == 6 else StoreFault("500")

    at = scene(rows=8, script=passes_only_the_second_batch, policy=DeliveryPolicy(batch_rows=4))
    assert at.delivery.run_once().state == "unavailable"
    assert at.spool.dead == {}
    assert at.spool.accepted == [5, 6, 7, 8]
    assert [row.row_id for row in at.spool.queue] == [1, 2, 3, 4]


def test_a_mixture_of_failures_does_not_point_at_the_rows() -> None:
    answers = [StoreFault("500")] * 4 + [Unavailable("503")]
    at = scene(rows=8, script=in_turn(*answers), policy=DeliveryPolicy(batch_rows=4))
    assert at.delivery.run_once().state == "unavailable"
    assert at.sink.sizes == [4] * 5


def test_a_wait_ends_when_delivery_is_stopped() -> None:
    at = scene(script=always(Unavailable("away")))
    at.stop.set()
    at.delivery.run_once()
    assert (len(at.stop.waits), at.sink.sizes) == (1, [3])
    assert at.spool.kept == [1, 2, 3]


def test_a_stopped_delivery_finishes_the_batch_at_hand_and_no_more() -> None:
    at = scene(rows=6, policy=DeliveryPolicy(batch_rows=2))
    at.stop.set()
    assert at.delivery.run_once().accepted == 2


def test_write_latencies_are_known_after_a_write() -> None:
    at = scene()
    assert at.delivery.status().write_p99_ms is None
    at.delivery.run_once()
    status = at.delivery.status()
    assert status.write_p50_ms is not None and status.write_p99_ms is not None
    assert 0 <= status.write_p50_ms <= status.write_p99_ms


def test_an_outage_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    at = scene(script=always(Unavailable("away")))
    with caplog.at_level(logging.INFO, logger="owui_usage"):
        for _ in range(20):
            at.delivery.run_once()
            at.clock.move(31)
        at.sink.script = in_turn()
        at.delivery.run_once()
    assert [record.getMessage() for record in caplog.records] == [
        "delivery to scripted is unavailable: away",
        "delivery to scripted is breaker_open: away",
        "delivery to scripted is idle: ok",
    ]


def test_the_log_never_quotes_what_the_server_said_about_a_row(
    caplog: pytest.LogCaptureFixture,
) -> None:
    at = scene(rows=2, script=refuses(BatchRefused("bad line: secret words"), 1))
    at.delivery.run_once()
    assert "secret" not in caplog.text
    assert "1 refused by the store" in caplog.text
