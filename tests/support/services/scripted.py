"""An event store over HTTP that answers as the test tells it, and one that breaks connections."""

import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import parse_headers
from json import dumps

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from shared.event_store.influx.write import InfluxSettings

NO_SERIES = '{"results":[{"statement_id":0}]}'
Answer = Callable[[list[str]], Response]
RawAnswer = Callable[[socket.socket, str, threading.Event], None]


@dataclass
class ScriptedInflux:
    """A server that stores the lines of a write when its answer to them says so.

    `answer` gets the lines of a request; it may put some of them into `stored` itself. `reading` is
    what every query is answered with.
    """

    server: HTTPServer
    answer: Answer = field(default=lambda lines: Response(status=204))
    reading: Callable[[Request], Response] = field(default=lambda request: Response(NO_SERIES))
    stored: list[str] = field(default_factory=list)
    writes: list[Request] = field(default_factory=list)
    queries: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.expect_request("/api/v2/write").respond_with_handler(self._write)
        self.server.expect_request("/query").respond_with_handler(self._query)

    def settings(self, **fields: str | int) -> InfluxSettings:
        """Return settings that lead here."""
        settings: dict[str, str | int] = {
            "url": self.server.url_for("").rstrip("/"),
            "token": "secret-token",
            "org": "org",
            "bucket": "usage/autogen",
            "write_timeout_ms": 10_000,
        }
        return InfluxSettings(**(settings | fields))  # type: ignore[arg-type]

    def _write(self, request: Request) -> Response:
        self.writes.append(request)
        body = request.get_data()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        lines = body.decode().split("\n")
        response = self.answer(lines)
        if response.status_code == 204:
            self.stored += lines
        return response

    def _query(self, request: Request) -> Response:
        self.queries.append(request)
        return self.reading(request)


def says(status: int, body: str = "", **headers: str) -> Response:
    """Return an answer; a header's name is written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(body, status=status, headers=named)


def message(words: str) -> str:
    """Return the body of an error as 2.x writes it."""
    return dumps({"code": "invalid", "message": words})


@contextmanager
def broken_server(*spoken: bytes, resets: bool = False) -> Iterator[str]:
    """Serve an address that reads a request, says these bytes and breaks the connection.

    With nothing to say and no reset it stays silent until the test is over.
    """

    def answer(connection: socket.socket, asked: str, over: threading.Event) -> None:
        for part in spoken:
            connection.sendall(part)
        if resets:
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif not spoken:
            over.wait()

    with _raw_server(answer) as url:
        yield url


@contextmanager
def slow_server(*spoken: bytes, seconds: float, reading: str | None = None) -> Iterator[str]:
    """Serve an address that says these bytes with so many seconds before each.

    A query is answered at once with `reading`, if that is given.
    """

    def answer(connection: socket.socket, asked: str, over: threading.Event) -> None:
        if reading is not None and " /query" in asked:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(reading)}\r\nConnection: close\r\n\r\n"
            connection.sendall((head + reading).encode())
            return
        for part in spoken:
            if over.wait(seconds):
                return
            connection.sendall(part)

    with _raw_server(answer) as url:
        yield url


@contextmanager
def _raw_server(answer: RawAnswer) -> Iterator[str]:
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=(listener, answer, over), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _serve(
    listener: socket.socket,
    answer: RawAnswer,
    over: threading.Event,
) -> None:
    """Answer one connection after the other: the next has its turn when one side ends the last."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(ConnectionError):
            answer(connection, _asked(connection), over)


def _asked(connection: socket.socket) -> str:
    """Return the first line of a request that was read to its end: else closing is a reset."""
    with connection.makefile("rb") as request:
        line = request.readline()
        request.read(int(parse_headers(request).get("Content-Length", 0)))
    return line.decode()
