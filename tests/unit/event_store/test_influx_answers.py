"""Every answer of an event store leads to the decision that the table of answers names."""

import pytest

from shared.errors import BatchRefused, Misconfigured, StoreFault, TooLarge, Unavailable
from shared.event_store.influx.answers import query_error, words_in, write_error

PARSE = '{"code":"invalid","message":"unable to parse \'x\': missing fields"}'
CONFLICT = '{"error":"partial write: field type conflict: input field \\"a\\" dropped=1"}'
PAGE = "<html><title>Sign in</title></html>"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("body", ["", " \n"])
def test_an_empty_answer_of_the_two_hundreds_takes_everything(status: int, body: str) -> None:
    assert write_error(status, body) is None


@pytest.mark.parametrize(
    ("status", "body", "decision"),
    [
        (400, PARSE, BatchRefused),
        (400, CONFLICT, BatchRefused),
        (400, '{"message":"failed to parse line protocol: errors on line 2"}', BatchRefused),
        (422, "", BatchRefused),
        (422, '{"code":"unprocessable entity","message":"points beyond retention"}', BatchRefused),
        (500, CONFLICT, BatchRefused),
        (200, CONFLICT, BatchRefused),
        (413, "", TooLarge),
        (401, '{"error":"unable to parse authentication credentials"}', Misconfigured),
        (200, PAGE, Misconfigured),
        (204, PAGE, Misconfigured),
        (400, '{"message":"Please provide either orgID or org"}', Misconfigured),
        *((status, "", Misconfigured) for status in (301, 302, 307, 308, 401, 402, 403, 404)),
        *((status, "", Misconfigured) for status in (400, 405, 406, 409, 410, 418, 451, 501, 505)),
        *((status, "", Unavailable) for status in (408, 425, 429, 499, 502, 503, 504, 507, 599)),
        (500, "", StoreFault),
    ],
)
def test_a_write_is_decided_by_the_table(status: int, body: str, decision: type) -> None:
    assert type(write_error(status, body)) is decision


@pytest.mark.parametrize("status", range(100, 600))
def test_no_status_is_without_a_decision(status: int) -> None:
    error = write_error(status, "")
    assert (error is None) is (200 <= status <= 299)
    assert error is None or str(error).startswith(f"{status} ")
    assert (query_error(status, "") is None) is (status == 200)


def test_a_wait_that_the_server_asks_for_is_handed_on() -> None:
    error = write_error(503, "", 12.0)
    assert isinstance(error, Unavailable) and error.retry_after_seconds == 12.0


def test_a_server_that_asks_to_wait_does_not_blame_the_batch() -> None:
    assert type(write_error(500, "", 12.0)) is Unavailable


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (PARSE, "unable to parse 'x': missing fields"),
        (CONFLICT, 'partial write: field type conflict: input field "a" dropped=1'),
        (
            '{"error":"partial write of line protocol occurred","data":[{"line_number":2}]}',
            "partial write of line protocol occurred [{'line_number': 2}]",
        ),
        ("  plain\n words ", "plain words"),
        ("[1]", "[1]"),
        ('{"message":7}', '{"message":7}'),
        ("x" * 1000, "x" * 400),
        ("", ""),
    ],
)
def test_the_words_are_what_a_person_can_read(body: str, words: str) -> None:
    assert words_in(body) == words
