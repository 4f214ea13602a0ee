"""Servers whose answer comes byte by byte, each byte in time: what is sent, and what is asked."""

import threading
from collections.abc import Callable
from datetime import timedelta
from json import dumps
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from shared.errors import Unavailable
from shared.event_store.influx.store import InfluxStore
from shared.event_store.influx.write import InfluxSettings, InfluxSink
from shared.event_store.port import Window
from tests.support.builders import NOON, settled
from tests.support.services.delivering import Delivering
from tests.support.services.scripted import NO_SERIES, ScriptedInflux, says, slow_server
from tests.support.spools import spooled

# What comes at once, and what comes byte by byte.
DRIPS = {
    "the status": (b"", b"HTTP/1.1 204 " + b"x" * 500),
    "the headers": (b"HTTP/1.1 204 No Content\r\n", b"X-Slow: 1\r\n" * 50),
    "the body": (b"HTTP/1.1 400 Bad\r\nContent-Length: 500\r\n\r\n", b"x" * 500),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 90),
}
every_drip = pytest.mark.parametrize(("head", "drips"), DRIPS.values(), ids=DRIPS)
WINDOW = Window(NOON, NOON + timedelta(hours=1))
READINGS: dict[str, Callable[[InfluxStore], Any]] = {
    "a whole answer": lambda store: store.usage(WINDOW),
    "a stream": lambda store: list(store.events(WINDOW)),
}


def dripping(text: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in text]


def place(url: str, write_timeout_ms: int = 200) -> InfluxSettings:
    return InfluxSettings(
        url=url, token="t", org="o", bucket="b", write_timeout_ms=write_timeout_ms
    )


@pytest.mark.parametrize("reading", [None, NO_SERIES], ids=["first question", "write"])
@every_drip
def test_an_answer_to_a_delivery_that_drips_is_given_up(
    head: bytes, drips: bytes, reading: str | None
) -> None:
    with slow_server(head, *dripping(drips), seconds=0.02, reading=reading) as url:
        sink = InfluxSink(place(url))
        with pytest.raises(Unavailable, match=r"^no answer from InfluxDB within 0\.4 s$"):
            sink.write(spooled([settled()]))


def test_rows_whose_answer_dripped_are_sent_again(httpserver: HTTPServer) -> None:
    influx = ScriptedInflux(httpserver)
    over = threading.Event()
    drips = (b"x" for _ in range(500) if not over.wait(0.02))
    answers = [Response(drips), *[says(204)] * 2]
    influx.answer = lambda lines: answers.pop(0)
    at = Delivering(influx.settings(write_timeout_ms=500))
    assert at.delivery.run_once().accepted == 8
    assert (len(influx.queries), len(influx.writes)) == (1, 3)
    over.set()


def test_a_slow_answer_to_a_delivery_is_waited_for() -> None:
    parts = b"HTTP/1.1 204 ", b"No Content\r\n", b"Connection: close\r\n\r\n"
    with slow_server(*parts, seconds=0.4, reading=NO_SERIES) as url:
        assert Delivering(place(url, 1000), rows=2).delivery.run_once().accepted == 2


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
@every_drip
def test_an_answer_to_a_question_that_drips_is_given_up(
    head: bytes, drips: bytes, read: Callable[[InfluxStore], Any]
) -> None:
    with slow_server(head, *dripping(drips), seconds=0.02) as url:
        store = InfluxStore(place(url), query_timeout_seconds=0.2)
        with pytest.raises(Unavailable, match=r"^no answer from InfluxDB within 0\.[45] s$"):
            read(store)
        store.close()


def test_a_proxy_of_the_environment_may_not_drip_either(monkeypatch: pytest.MonkeyPatch) -> None:
    with slow_server(*dripping(b"x" * 500), seconds=0.02) as url:
        monkeypatch.setenv("http_proxy", url)
        store = InfluxStore(place("http://influxdb:8086"), query_timeout_seconds=0.2)
        with pytest.raises(Unavailable, match=r"within 0\.[45] s$"):
            store.usage(WINDOW)
        store.close()


def test_a_stream_takes_the_time_it_takes_while_it_moves() -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    chunk = dumps({"results": [{"statement_id": 0, "messages": ["x" * 1000]}]}).encode() + b"\n"
    with slow_server(head, *[chunk] * 6, seconds=0.2) as url:
        store = InfluxStore(place(url), query_timeout_seconds=0.4)
        assert list(store.events(WINDOW)) == []
        store.close()
