"""Asking InfluxDB: InfluxQL over HTTP, bound parameters, and no half answer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from json import dumps, loads
from ssl import SSLContext
from time import monotonic
from typing import Any

import httpcore
import httpx

from shared.delivery.retry import parse_retry_after
from shared.errors import DeliveryError, Misconfigured, Unavailable
from shared.event_store.influx.answers import query_error, words_in
from shared.event_store.influx.write import InfluxSettings, host_of

# The timeout of a read bounds the first byte; the whole may take as long again, and longer only
# while it moves at this rate: a stream of millions of rows takes the time it takes.
_ANSWER_PER_TIMEOUT = 2
_SLOWEST_BYTES_PER_SECOND = 1000


@dataclass(frozen=True)
class Series:
    """Rows that share their tags; every row starts with its time in nanoseconds."""

    tags: Mapping[str, str]
    columns: list[str]
    rows: list[list[Any]]


class InfluxQuery:
    """Asks one bucket; raises Unavailable or Misconfigured for everything but a whole answer.

    An address that is none raises Misconfigured at once.
    """

    def __init__(self, settings: InfluxSettings, timeout_seconds: float = 60.0) -> None:
        host_of(settings.url)
        self._settings = settings
        self._client = httpx.Client(
            base_url=settings.url.rstrip("/"), timeout=timeout_seconds, follow_redirects=False
        )
        bound_queries(self._client)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(
        self, query: str, bound: Mapping[str, str] | None = None, *, write: bool = False
    ) -> list[Series]:
        """Return the whole answer to a query; `write` uses the token that may delete."""
        with _transport_errors_mapped():
            answer = self._client.post(
                "/query", data=self._form(query, bound or {}), headers=self._headers(write)
            )
            text = answer.text
        _raise_for_status(answer, text)
        result = _result(text)
        series = list(_series(result))
        if result.get("partial") or any(one.get("partial") for one in result.get("series", ())):
            raise Unavailable("InfluxDB cut the answer short (max-row-limit)")
        return series

    def stream(self, query: str, bound: Mapping[str, str]) -> Iterator[Series]:
        """Return the answer in chunks, so that no million rows are held at once."""
        is_whole = False
        form = self._form(query, bound) | {"chunked": "true"}
        with (
            _transport_errors_mapped(),
            self._client.stream(
                "POST", "/query", data=form, headers=self._headers(False)
            ) as answer,
        ):
            if answer.status_code != 200:
                _raise_for_status(answer, answer.read().decode(errors="replace"))
            for line in _lines(answer):
                result = _result(line)
                yield from _series(result)
                is_whole = not result.get("partial")
        if not is_whole:
            raise Unavailable("the answer of InfluxDB ended in the middle")

    def delete(self, predicate: str) -> bool:
        """Delete points of all times by the 2.x interface; the predicate must name a measurement.

        False when the server has no such interface, as before 2.x; nothing happened then.
        """
        with _transport_errors_mapped():
            answer = self._client.post(
                "/api/v2/delete",
                params={"org": self._settings.org, "bucket": self._settings.bucket},
                json={
                    "start": "1970-01-01T00:00:00Z",
                    "stop": "2262-01-01T00:00:00Z",
                    "predicate": predicate,
                },
                headers=self._headers(True),
            )
            text = answer.text
        if answer.status_code in (404, 405) and "bucket" not in text:
            return False
        if answer.status_code != 204:
            _raise_for_status(answer, text)
        return True

    def version(self) -> str:
        """Return what the server says it is."""
        with _transport_errors_mapped():
            answer = self._client.get("/ping")
        return str(answer.headers.get("X-Influxdb-Version", "of unknown version"))

    def _form(self, query: str, bound: Mapping[str, str]) -> dict[str, str]:
        database, _, policy = self._settings.bucket.partition("/")
        form = {"q": query, "db": database, "epoch": "ns"}
        if policy:
            form["rp"] = policy
        if bound:
            form["params"] = dumps(bound)
        return form

    def _headers(self, write: bool) -> dict[str, str]:
        token = self._settings.token
        if not write:
            token = self._settings.read_token or token
        return {"Authorization": f"Token {token}", "Accept": "application/json"}


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    """Return the lines of a body; httpx's own also end at separators that a text may hold."""
    parts: list[bytes] = []
    for chunk in answer.iter_bytes():
        head, end, rest = chunk.partition(b"\n")
        while end:
            yield b"".join((*parts, head))
            parts.clear()
            head, end, rest = rest.partition(b"\n")
        parts.append(head)
    if any(parts):
        yield b"".join(parts)


def _raise_for_status(answer: httpx.Response, text: str) -> None:
    retry_after = parse_retry_after(answer.headers.get("Retry-After"), datetime.now(UTC))
    if error := query_error(answer.status_code, text, retry_after):
        raise error


def _result(body: str | bytes) -> dict[str, Any]:
    """Return the one result of an answer with status 200, which may still say that it failed."""
    text = body if isinstance(body, str) else body.decode(errors="replace")
    try:
        content = loads(text)
    except ValueError as error:
        if text.startswith('{"results'):
            raise Unavailable("the answer of InfluxDB ended in the middle") from error
        content = None  # somebody else answered, such as a proxy with a page
    if not isinstance(content, dict) or not ("error" in content or content.get("results")):
        raise Misconfigured(f"this is no answer of InfluxDB: {words_in(text)[:80]}")
    result = content if "error" in content else content["results"][0]
    if "error" in result:
        raise _said(str(result["error"]))
    return dict(result)


def _said(words: str) -> DeliveryError:
    """Judge an error inside a 200 by its words; a missing database is not going to appear."""
    is_lasting = any(part in words for part in ("not found", "uthoriz", "permission", "pars"))
    return (Misconfigured if is_lasting else Unavailable)(f"InfluxDB: {words}")


def _series(result: Mapping[str, Any]) -> Iterator[Series]:
    for one in result.get("series", ()):
        yield Series(one.get("tags", {}), one["columns"], one.get("values", []))


@contextmanager
def _transport_errors_mapped() -> Iterator[None]:
    try:
        yield
    except httpx.InvalidURL as error:
        raise Misconfigured("INFLUXDB_URL is no usable address") from error
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
        raise Misconfigured(f"INFLUXDB_URL cannot be used: {error}") from error
    except (httpx.HTTPError, httpx.StreamError) as error:
        said = str(error) or type(error).__name__
        raise Unavailable(f"no answer from InfluxDB: {said}") from error


class StreamInTime(httpcore.NetworkStream):
    """A connection that stops waiting for an answer which drips in; what a reader takes is free."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._waited = 0.0
        self._received = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Receive what there is. Raises Unavailable when the answer took too long."""
        enough = (timeout or 0) * _ANSWER_PER_TIMEOUT + self._received / _SLOWEST_BYTES_PER_SECOND
        if timeout and self._waited > enough:
            raise Unavailable(f"no answer from InfluxDB within {round(enough, 1):g} s")
        started = monotonic()
        received = self._stream.read(max_bytes, timeout)
        self._waited += monotonic() - started
        self._received += len(received)
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send a part of a request; the next answer starts anew."""
        self._waited, self._received = 0.0, 0
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Go on encrypted."""
        return StreamInTime(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection knows about itself."""
        return self._stream.get_extra_info(info)


class BackendInTime(httpcore.SyncBackend):
    """Opens such connections."""

    def connect_tcp(self, *args: Any, **named: Any) -> httpcore.NetworkStream:
        """Open one."""
        return StreamInTime(super().connect_tcp(*args, **named))


def bound_queries(client: httpx.Client) -> None:
    """Give every answer to a client a deadline, through the proxies of its environment too.

    httpx has no place to say so: its own transports take no backend, a transport of ours no proxy.
    """
    transports: list[Any] = [client._transport, *client._mounts.values()]
    for transport in transports:
        if transport is not None:  # a host that needs no proxy
            transport._pool._network_backend = BackendInTime()
