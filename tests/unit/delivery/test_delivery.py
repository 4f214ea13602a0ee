"""Delivery empties a spool, waits where waiting helps, and loses nothing on the way."""

import logging
import sys
from collections.abc import Sequence

import pytest

from shared.delivery.delivery import DeliveryPolicy
from shared.errors import (
    Misconfigured,
    Unavailable,
)
from shared.spool.port import SpooledRow
from tests.support.builders import generation_id, settled
from tests.support.delivery_scene import Answer, always, in_turn, scene


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
    at.spool.put([settled(request_id=generation_id(99))])
    at.delivery.run_once()
    assert at.delivery.status().breaker == "closed"


def test_it_obeys_a_short_wait_that_the_server_asks_for() -> None:
    at = scene(script=in_turn(*[Unavailable("busy", retry_after_seconds=7.0)] * 4))
    assert at.delivery.run_once().accepted == 3
    assert at.stop.waits[:3] == [7.0, 7.0, 7.0]
    assert 8.0 <= at.stop.waits[3] <= 10.0


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


def test_a_store_too_slow_for_a_full_batch_is_given_smaller_ones() -> None:
    def times_out(rows: Sequence[SpooledRow]) -> Answer:
        return Unavailable("read timed out") if len(rows) > 150 else None

    at = scene(rows=900, script=times_out, policy=DeliveryPolicy(batch_rows=500))
    runs = 0
    while at.spool.queue:
        at.delivery.run_once()
        at.clock.move(30)
        runs += 1
        assert runs < 50
    assert at.sink.sizes[:5] == [500] * 5
    assert at.sink.stored == dict.fromkeys(at.ids, 1)


def test_batches_grow_again_when_the_store_is_well() -> None:
    at = scene(
        rows=900, script=in_turn(*[Unavailable("away")] * 5), policy=DeliveryPolicy(batch_rows=400)
    )
    at.delivery.run_once()
    at.delivery.run_once()
    assert at.sink.sizes[5:] == [100, 200, 400, 200]


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
