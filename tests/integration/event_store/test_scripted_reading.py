"""Reading from a server that answers with errors: never half an answer, always a decision."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from json import dumps
from typing import Any

import httpx
import pytest
from pytest_httpserver import HTTPServer

from shared.errors import DeliveryError, Misconfigured, Unavailable
from shared.event_store.influx.store import InfluxStore
from shared.event_store.influx.write import InfluxSettings
from shared.event_store.port import Window
from tests.support.builders import NOON, NOON_SECONDS
from tests.support.services.scripted import NO_SERIES, ScriptedInflux, broken_server, says

WINDOW = Window(NOON, NOON + timedelta(hours=1))
READINGS: dict[str, Callable[[InfluxStore], Any]] = {
    "usage": lambda store: store.usage(WINDOW),
    "repeated": lambda store: store.repeated(WINDOW),
    "events": lambda store: list(store.events(WINDOW)),
    "fingerprints": lambda store: store.fingerprints(WINDOW),
    "unmetered": lambda store: store.unmetered(WINDOW),
    "hosts": lambda store: store.hosts(),
    "users": lambda store: store.users(),
    "delete_import": lambda store: store.delete_import("2026-11"),
}
every_reading = pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
# One that asks for a whole answer and one that takes it in chunks.
both_ways = pytest.mark.parametrize("read", [READINGS["usage"], READINGS["events"]])


@pytest.fixture
def influx(httpserver: HTTPServer) -> ScriptedInflux:
    """A server that answers every query with nothing until it is told otherwise."""
    return ScriptedInflux(httpserver)


@pytest.fixture
def store(influx: ScriptedInflux) -> Iterator[InfluxStore]:
    """A store on that server."""
    store = InfluxStore(influx.settings(read_token="read-token"), query_timeout_seconds=10)
    yield store
    store.close()


def points(*rows: list[Any], partial: bool = False, **more: Any) -> str:
    """Return one line of an answer with event columns that are enough for an event."""
    columns = ["time", "request_id", "grain", "cost_source", "cost_pico_usd", "external_user"]
    series: dict[str, Any] = {
        "name": "usage_events",
        "columns": [*columns, "model", "source"],
        "values": rows,
    }
    result = {"statement_id": 0, "series": [series]} | ({"partial": True} if partial else {})
    return dumps({"results": [result | more]})


def point(number: int) -> list[Any]:
    """Return a point that is a settled event."""
    at = NOON_SECONDS * 10**9 + number
    return [at, f"turn:c:{number}", "turn", "outlet", 5, "alice-id", "m", "pipeline"]


@both_ways
@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, Misconfigured) for status in (301, 307, 400, 401, 403, 404, 418, 501)),
        *((status, Unavailable) for status in (408, 425, 429, 499, 500, 502, 503, 504)),
    ],
)
def test_a_reading_fails_with_the_decision_of_its_status(
    influx: ScriptedInflux,
    store: InfluxStore,
    read: Callable[[InfluxStore], Any],
    status: int,
    error: type[DeliveryError],
) -> None:
    influx.reading = lambda request: says(status, '{"error":"because"}', Location="/x")
    with pytest.raises(error, match="because"):
        read(store)


@every_reading
def test_no_reading_takes_a_failure_for_an_empty_answer(
    influx: ScriptedInflux, store: InfluxStore, read: Callable[[InfluxStore], Any]
) -> None:
    influx.reading = lambda request: says(503)
    with pytest.raises(Unavailable):
        read(store)


HIDDEN = {
    "an error of the whole": ('{"error":"timeout"}', Unavailable),
    "an error of the statement": (
        '{"results":[{"statement_id":0,"error":"database not found: usage"}]}',
        Misconfigured,
    ),
    "no permission": ('{"results":[{"error":"not authorized to read"}]}', Misconfigured),
    "an engine that closes": ('{"results":[{"error":"engine is closed"}]}', Unavailable),
    "nothing at all": ("{}", Misconfigured),
    "a page": ("<html>Sign in</html>", Misconfigured),
    "an empty body": ("", (Misconfigured, Unavailable)),
    "a list": ("[]", Misconfigured),
    "no result": ('{"results":[]}', Misconfigured),
}


@both_ways
@pytest.mark.parametrize(("body", "error"), HIDDEN.values(), ids=HIDDEN)
def test_an_error_inside_an_answer_with_status_200_is_a_failure(
    influx: ScriptedInflux,
    store: InfluxStore,
    read: Callable[[InfluxStore], Any],
    body: str,
    error: type[DeliveryError],
) -> None:
    influx.reading = lambda request: says(200, body)
    with pytest.raises(error):
        read(store)


@pytest.mark.parametrize("name", ["usage", "repeated", "fingerprints", "unmetered", "hosts"])
@pytest.mark.parametrize("where", ["result", "series"])
def test_an_answer_that_was_cut_short_is_a_failure(
    influx: ScriptedInflux, store: InfluxStore, name: str, where: str
) -> None:
    series: dict[str, Any] = {"columns": ["time", "events", "bills"], "values": [[0, 1, 1]]}
    result: dict[str, Any] = {"statement_id": 0, "series": [series]}
    (result if where == "result" else series)["partial"] = True
    influx.reading = lambda request: says(200, dumps({"results": [result]}))
    with pytest.raises(Unavailable, match="cut the answer short"):
        READINGS[name](store)


def test_events_come_in_chunks(influx: ScriptedInflux, store: InfluxStore) -> None:
    first = points(point(1), point(2), partial=True)
    influx.reading = lambda request: says(200, f"{first}\n{points(point(3))}\n")
    assert [event.request_id for event in store.events(WINDOW)] == [
        "turn:c:1",
        "turn:c:2",
        "turn:c:3",
    ]
    assert influx.queries[0].form["chunked"] == "true"


def test_chunks_without_a_last_one_are_a_failure(
    influx: ScriptedInflux, store: InfluxStore
) -> None:
    influx.reading = lambda request: says(200, points(point(1), partial=True) + "\n")
    with pytest.raises(Unavailable, match="ended in the middle"):
        list(store.events(WINDOW))


def test_an_error_after_the_first_chunk_is_a_failure(
    influx: ScriptedInflux, store: InfluxStore
) -> None:
    failure = '{"results":[{"statement_id":0,"error":"query killed"}]}'
    first = points(point(1), partial=True)
    influx.reading = lambda request: says(200, f"{first}\n{failure}\n")
    with pytest.raises(Unavailable, match="query killed"):
        list(store.events(WINDOW))


@pytest.mark.parametrize(
    "stranger",
    [
        [NOON_SECONDS * 10**9, None, "turn", "outlet", 5, "alice-id", "m", "pipeline"],
        [NOON_SECONDS * 10**9, "turn:x", "turn", "outlet", -5, "alice-id", "m", "pipeline"],
        [NOON_SECONDS * 10**9, "turn:x", "turn", "outlet", 0.5, "alice-id", "m", "pipeline"],
        [NOON_SECONDS * 10**9, "turn:x", "poem", "outlet", 5, "alice-id", "m", "pipeline"],
        [NOON_SECONDS * 10**9, "turn:x", "turn", "outlet", None, "alice-id", "m", "pipeline"],
    ],
)
def test_a_point_that_is_none_of_ours_is_never_taken_for_money(
    influx: ScriptedInflux, store: InfluxStore, stranger: list[Any]
) -> None:
    influx.reading = lambda request: says(200, points(point(1), stranger))
    with pytest.raises(Misconfigured, match="none of ours"):
        list(store.events(WINDOW))


@every_reading
@pytest.mark.parametrize(
    "spoken",
    [
        [],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + NO_SERIES.encode()],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n", b'{"results":[\r\n'],
        [b"HTTP/1.1 503 Busy\r\nContent-Length: 900\r\n\r\nhalf"],
        [b"nonsense\r\n\r\n"],
    ],
    ids=["silence", "half a body", "half a chunk", "half a refusal", "no http"],
)
def test_a_connection_that_breaks_is_no_answer(
    read: Callable[[InfluxStore], Any], spoken: list[bytes]
) -> None:
    with broken_server(*spoken) as url:
        settings = InfluxSettings(url=url, token="t", org="o", bucket="b")
        store = InfluxStore(settings, query_timeout_seconds=0.1)
        with pytest.raises(Unavailable):
            read(store)
        assert not store.health().ok
        store.close()


@pytest.mark.parametrize("url", ["http://", "no address", "ftp://127.0.0.1", "http://[::1"])
def test_an_address_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(Misconfigured):
        InfluxStore(InfluxSettings(url=url, token="t", org="o", bucket="b")).usage(WINDOW)


def test_values_are_bound_and_the_retention_policy_has_its_own_parameter(
    influx: ScriptedInflux, store: InfluxStore
) -> None:
    store.usage(WINDOW)
    form = influx.queries[0].form
    assert (form["db"], form["rp"], form["epoch"]) == ("usage", "autogen", "ns")
    assert form["params"] == '{"start": "2026-11-24T12:00:00Z", "end": "2026-11-24T13:00:00Z"}'
    assert influx.queries[0].headers["Authorization"] == "Token read-token"


def test_health_says_what_is_wrong(influx: ScriptedInflux, store: InfluxStore) -> None:
    influx.reading = lambda request: says(401, '{"error":"unauthorized access"}')
    health = store.health()
    assert (health.ok, health.detail) == (False, "401: unauthorized access")


def test_every_error_of_httpx_is_a_decision(store: InfluxStore) -> None:
    from shared.event_store.influx.query import _transport_errors_mapped

    raised = [
        thing
        for thing in vars(httpx).values()
        if isinstance(thing, type) and issubclass(thing, Exception)
    ]
    assert len(raised) > 20
    for error in raised:
        if issubclass(error, httpx.CookieConflict):
            continue  # we keep no cookies
        with pytest.raises(DeliveryError), _transport_errors_mapped():
            raise error.__new__(error)
