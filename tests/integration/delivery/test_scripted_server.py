"""Delivery against a server that gives every answer there is, row by row of the table."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from tests.support.services.delivering import Delivering, numbers
from tests.support.services.scripted import ScriptedInflux, message, says


@pytest.fixture
def influx(httpserver: HTTPServer) -> ScriptedInflux:
    """A server that takes everything until it is told otherwise."""
    return ScriptedInflux(httpserver)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_an_empty_answer_of_the_two_hundreds_takes_the_batch(
    influx: ScriptedInflux, status: int
) -> None:
    influx.answer = lambda lines: says(status)
    at = Delivering(influx.settings())
    result = at.delivery.run_once()
    assert (result.accepted, result.state) == (8, "idle")
    assert at.delivery.status().breaker == "closed"


MISCONFIGURED = [
    *((status, "") for status in (301, 302, 307, 308)),
    *((status, message("no")) for status in (401, 402, 403, 404, 405, 409, 501, 505)),
    (400, message("Please provide either orgID or org")),
    (200, "<html>Please sign in</html>"),
    (204 + 2, "a proxy's page"),
]


@pytest.mark.parametrize(("status", "body"), MISCONFIGURED)
def test_what_a_person_must_mend_keeps_everything_and_is_probed_each_minute(
    influx: ScriptedInflux, status: int, body: str
) -> None:
    headers = {"Location": "/elsewhere"} if 300 <= status < 400 else {}
    influx.answer = lambda lines: says(status, body, **headers)
    at = Delivering(influx.settings())
    for _ in range(3):
        assert at.delivery.run_once().state == "misconfigured"
        at.clock.move(59.9)
        at.delivery.run_once()
        at.clock.move(0.1)
    assert len(influx.writes) == 3
    assert (len(at.spool.queue), at.spool.dead, at.stop.waits) == (8, {}, [])
    assert str(status) in at.delivery.status().message
    assert at.delivery.status().breaker == "closed"
    influx.answer = lambda lines: says(204)
    assert at.delivery.run_once().accepted == 8


@pytest.mark.parametrize("status", [408, 425, 429, 499, 500, 502, 503, 504, 507])
def test_what_may_pass_is_tried_five_times_and_counts_as_a_failure(
    influx: ScriptedInflux, status: int
) -> None:
    influx.answer = lambda lines: says(status)
    at = Delivering(influx.settings(), rows=4)
    assert at.delivery.run_once().state == "unavailable"
    assert (len(influx.writes), len(at.stop.waits)) == (5, 4)
    at.delivery.run_once()
    assert at.delivery.run_once().state == "breaker_open"
    assert (len(at.spool.queue), at.spool.dead) == (4, {})


def test_a_short_wait_that_the_server_asks_for_is_part_of_the_delivery(
    influx: ScriptedInflux,
) -> None:
    answers = [says(503, "", Retry_After="6")]
    influx.answer = lambda lines: answers.pop() if answers else says(204)
    at = Delivering(influx.settings(), rows=4)
    assert at.delivery.run_once().accepted == 4
    assert at.stop.waits == [6.0]


def test_nothing_is_sent_before_the_date_that_the_server_names(influx: ScriptedInflux) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    answers = [says(503, "", Retry_After=date)]
    influx.answer = lambda lines: answers.pop() if answers else says(204)
    at = Delivering(influx.settings(), rows=4)
    assert at.delivery.run_once().state == "unavailable"
    at.clock.move(280)
    at.delivery.run_once()
    assert len(influx.writes) == 1
    at.clock.move(20)
    assert at.delivery.run_once().accepted == 4


def test_a_long_wait_is_obeyed_up_to_ten_minutes(influx: ScriptedInflux) -> None:
    answers = [says(429, "", Retry_After="86400")]
    influx.answer = lambda lines: answers.pop() if answers else says(204)
    at = Delivering(influx.settings(), rows=4)
    assert at.delivery.run_once().state == "unavailable"
    at.clock.move(599)
    at.delivery.run_once()
    assert len(influx.writes) == 1
    at.clock.move(1)
    assert at.delivery.run_once().accepted == 4


def test_a_batch_that_is_too_large_is_halved(influx: ScriptedInflux) -> None:
    influx.answer = lambda lines: says(413) if len(lines) > 1 else says(204)
    at = Delivering(influx.settings())
    assert at.delivery.run_once().accepted == 8
    assert numbers(influx.stored) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_single_row_that_is_too_large_is_a_dead_letter(influx: ScriptedInflux) -> None:
    influx.answer = lambda lines: says(413, "too big") if poisoned(lines) else says(204)
    at = Delivering(influx.settings())
    at.delivery.run_once()
    assert at.spool.dead == {3: "413: too big", 6: "413: too big"}


def poisoned(lines: list[str]) -> list[str]:
    return [line for line in lines if set(numbers([line])) & {3, 6}]


def like_2(influx: ScriptedInflux, status: int, words: str) -> Callable[[list[str]], Response]:
    """2.x: of a batch with a malformed line nothing is stored."""
    return lambda lines: says(status, message(words)) if poisoned(lines) else says(204)


def like_1(influx: ScriptedInflux, status: int, words: str) -> Callable[[list[str]], Response]:
    """1.x, a conflict on 2.x, and 3: the good lines are stored."""

    def answer(lines: list[str]) -> Response:
        bad = poisoned(lines)
        if not bad:
            return says(204)
        influx.stored += [line for line in lines if line not in bad]
        return says(status, message(words))

    return answer


@pytest.mark.parametrize(
    ("semantics", "status", "words"),
    [
        (like_2, 400, "unable to parse 'x': missing fields"),
        (like_1, 400, "partial write: unable to parse 'x'"),
        (like_1, 400, "partial write: field type conflict dropped=1"),
        (like_1, 422, "failure writing points to database: partial write: dropped=1"),
        (like_1, 400, "partial write of line protocol occurred"),
        (like_2, 400, "failed to parse line protocol: errors on line 2"),
        (like_1, 500, "partial write: points beyond retention policy dropped=1"),
        (like_1, 200, "partial write: dropped=1"),
        (like_2, 422, "schema limit"),
    ],
)
def test_only_the_poisoned_lines_become_dead_letters_with_the_words_of_the_server(
    influx: ScriptedInflux, semantics: Any, status: int, words: str
) -> None:
    influx.answer = semantics(influx, status, words)
    at = Delivering(influx.settings())
    result = at.delivery.run_once()
    assert at.spool.dead == {3: f"{status}: {words}", 6: f"{status}: {words}"}
    assert sorted(set(numbers(influx.stored))) == [1, 2, 4, 5, 7, 8]
    assert sorted(at.spool.accepted) == [1, 2, 4, 5, 7, 8]
    assert (result.state, at.delivery.status().breaker) == ("idle", "closed")


def test_lines_that_make_the_server_fail_are_found_while_others_pass(
    influx: ScriptedInflux,
) -> None:
    influx.answer = lambda lines: says(500) if set(numbers(lines)) & {3} else says(204)
    at = Delivering(influx.settings())
    assert at.delivery.run_once().rejected == 1
    assert at.spool.dead == {3: "500 without a word"}
    assert sorted(set(numbers(influx.stored))) == [1, 2, 4, 5, 6, 7, 8]


def test_an_answer_lost_after_the_write_makes_nothing_double(influx: ScriptedInflux) -> None:
    lost: list[list[str]] = []

    def lose_the_first(lines: list[str]) -> Response:
        if not lost:
            lost.append(lines)
            influx.stored.extend(lines)
            return says(502)
        return says(204)

    influx.answer = lose_the_first
    at = Delivering(influx.settings())
    assert at.delivery.run_once().accepted == 8
    assert len(influx.stored) == 12
    assert len(set(influx.stored)) == 8  # byte for byte the same lines: the same points
