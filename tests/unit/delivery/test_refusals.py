"""Delivery gives up single rows only, and only those that the store refuses."""

from collections.abc import Sequence

import pytest

from shared.delivery.delivery import DeliveryPolicy
from shared.errors import (
    BatchRefused,
    StoreFault,
    TooLarge,
    Unavailable,
)
from shared.spool.port import SpooledRow
from tests.support.builders import generation_id, settled
from tests.support.delivery_scene import Answer, Script, always, in_turn, refuses, scene


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
        at.spool.put([settled(request_id=generation_id(50 + number))])
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


def test_a_stopped_delivery_halves_no_further_and_gives_up_nothing() -> None:
    at = scene(rows=8, script=always(BatchRefused("bad")))
    at.stop.set()
    result = at.delivery.run_once()
    assert (at.sink.sizes, result.kept, at.spool.dead) == ([8], 8, {})
    assert at.delivery.status().breaker == "closed"


def test_what_ended_before_the_store_went_away_is_settled() -> None:
    refused = BatchRefused("bad")
    away = [Unavailable("away")] * 5
    at = scene(rows=4, script=in_turn(refused, None, *away))
    result = at.delivery.run_once()
    assert (result.accepted, result.kept, result.state) == (2, 2, "unavailable")
    assert at.spool.accepted == [1, 2]


def faulty(*row_ids: int) -> Script:
    return refuses(StoreFault("500: internal error"), *row_ids)


def test_a_row_that_alone_makes_the_store_fail_becomes_a_dead_letter() -> None:
    at = scene(rows=12, script=faulty(3), policy=DeliveryPolicy(batch_rows=4))
    at.delivery.run_once()
    assert at.spool.dead == {3: "500: internal error"}
    assert sorted(at.spool.accepted) == [n for n in range(1, 13) if n != 3]
    assert at.delivery.status().breaker == "closed"


def test_rows_far_apart_that_make_the_store_fail_are_found_in_smaller_batches() -> None:
    at = scene(rows=1000, script=faulty(10, 450), policy=DeliveryPolicy(batch_rows=400))
    at.delivery.run_once()
    at.delivery.run_once()
    assert at.spool.dead == dict.fromkeys((10, 450), "500: internal error")
    assert len(at.spool.accepted) == 998


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


def test_the_log_never_quotes_what_the_server_said_about_a_row(
    caplog: pytest.LogCaptureFixture,
) -> None:
    at = scene(rows=2, script=refuses(BatchRefused("bad line: secret words"), 1))
    at.delivery.run_once()
    assert "secret" not in caplog.text
    assert "1 refused by the store" in caplog.text
