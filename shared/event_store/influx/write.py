"""Writing to InfluxDB: rows as line protocol, through influxdb-client, one request at a time."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from json import loads
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from shared.delivery.port import WriteResult
from shared.delivery.retry import parse_retry_after
from shared.errors import InvalidEvent, Misconfigured, Unavailable
from shared.event_store.influx.answers import write_error
from shared.event_store.influx.line_protocol import render_line
from shared.spool.port import SpooledRow

# The measurement of the system this one replaces; it kept request_id as a tag.
_ORIGINAL_MEASUREMENT = "usage_tracking"
_LOOPBACK_HOSTS = ("localhost", "127.", "::1")
# The write timeout bounds the first byte of an answer; the whole may take as long again.
_ANSWER_PER_TIMEOUT = 2


@dataclass(frozen=True, kw_only=True)
class InfluxSettings:
    """Where InfluxDB is and who we are to it.

    The bucket may be `database/retention-policy`; for 1.x the token is `user:password`. Without a
    read token the other one reads too. The measurement holds the usage events.
    """

    url: str
    token: str = field(repr=False)
    org: str
    bucket: str
    measurement: str = "usage_events"
    write_timeout_ms: int = 2000
    read_token: str = field(default="", repr=False)


class RowsInLines(list[SpooledRow]):
    """Rows and the request that writes them; `result` is how they end if it is taken."""

    def __init__(self, rows: Iterable[SpooledRow], body: bytes, result: WriteResult) -> None:
        super().__init__(rows)
        self.body = body
        self.result = result


class InfluxSink:
    """An EventSink in InfluxDB 1.8, 2.x, Cloud or 3.

    A row written again lands on the same point, byte for byte. Needs influxdb-client on the first
    write only; the connection is made then, and anew in a forked process.
    """

    name = "influxdb"

    def __init__(self, settings: InfluxSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._pid = 0
        self._is_ours = False

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        """Write rows of any kind down as the lines of one request."""
        return self._in_lines(rows)

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write rows of any kind in one request.

        Raises DeliveryError when the answer is no plain acceptance; Misconfigured also for the
        measurement of the original system, where our points would mix with its series.
        """
        request = self._in_lines(rows)
        if request.body:
            self._post(request.body)
        return request.result

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _in_lines(self, rows: Sequence[SpooledRow]) -> RowsInLines:
        if isinstance(rows, RowsInLines):
            return rows
        accepted: list[int] = []
        rejected: list[tuple[int, str]] = []
        lines: list[str] = []
        for position, row in enumerate(rows):
            try:
                lines.append(
                    render_line(row.kind, row.json, row.point_time_ns, self._settings.measurement)
                )
            except InvalidEvent as error:
                rejected.append((position, str(error)))
            else:
                accepted.append(position)
        return RowsInLines(rows, "\n".join(lines).encode(), WriteResult(accepted, rejected))

    def _post(self, body: bytes) -> None:
        client = self._connected()
        if not self._is_ours:
            self._refuse_the_original()
        with _client_errors_mapped():
            from influxdb_client.client.write_api import SYNCHRONOUS

            client.write_api(write_options=SYNCHRONOUS).write(
                self._settings.bucket, self._settings.org, body
            )
            answer = client.api_client.last_response
        if error := write_error(answer.status, answer.data):
            raise error

    def _connected(self) -> Any:
        """Return the client of this process: its sockets must not be shared with a parent's."""
        from influxdb_client.client.influxdb_client import InfluxDBClient

        if self._client is None or self._pid != os.getpid():
            host = host_of(self._settings.url)
            self._pid = os.getpid()
            self._client = InfluxDBClient(
                self._settings.url,
                self._settings.token,
                timeout=self._settings.write_timeout_ms,
                # On the same machine compressing costs more than it saves: 44 ms a batch.
                enable_gzip=not host.startswith(_LOOPBACK_HOSTS),
                org=self._settings.org,
            )
            bound_answers(
                self._client.api_client.rest_client.pool_manager,
                self._settings.write_timeout_ms / 1000 * _ANSWER_PER_TIMEOUT,
            )
        return self._client

    def _refuse_the_original(self) -> None:
        """Refuse a measurement with request_id among its tag keys, once per connection.

        A token that may only write cannot ask; then the original system's own name is refused.
        """
        measurement = self._settings.measurement
        tags = self._tag_keys()
        if "request_id" in tags or (tags == ["?"] and measurement == _ORIGINAL_MEASUREMENT):
            raise Misconfigured(
                f"the measurement {measurement} has request_id as a tag: it is the original "
                "system's. Set INFLUXDB_MEASUREMENT to a new name, such as usage_events, and "
                "bring its history over with the migration tools"
            )
        self._is_ours = True

    def _tag_keys(self) -> list[str]:
        """Return the tag keys of the measurement, or `?` when they cannot be known."""
        database, _, policy = self._settings.bucket.partition("/")
        name = self._settings.measurement.replace("\\", "\\\\").replace('"', '\\"')
        asked = {"db": database, "rp": policy, "q": f'SHOW TAG KEYS FROM "{name}"'}
        try:
            with _client_errors_mapped():
                api = self._connected().api_client
                query = [(key, value) for key, value in asked.items() if value]
                api.call_api("/query", "GET", None, query, {"Accept": "application/json"})
                [answer] = loads(api.last_response.data)["results"]
        except (Misconfigured, ValueError, KeyError, TypeError):
            return ["?"]
        if "error" in answer:
            return ["?"]
        return [row[0] for series in answer.get("series", ()) for row in series["values"]]


def host_of(url: str) -> str:
    """Return the host in an address. Raises Misconfigured when it is none for HTTP."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if not host:
        raise Misconfigured("INFLUXDB_URL is no address such as http://influxdb:8086")
    return host


@contextmanager
def _client_errors_mapped() -> Iterator[None]:
    """Turn whatever influxdb-client and urllib3 raise into the decision it stands for."""
    from influxdb_client.rest import ApiException
    from urllib3.exceptions import HTTPError, LocationValueError, SSLError

    try:
        yield
    except ApiException as error:
        raise _refused_request(error) from error
    except LocationValueError as error:
        raise Misconfigured("INFLUXDB_URL is no address such as http://influxdb:8086") from error
    except SSLError as error:
        raise _tls_error(str(error)) from error
    except UnicodeDecodeError as error:
        raise Misconfigured("the answer is no text: this is not InfluxDB") from error
    except (HTTPError, OSError) as error:
        raise Unavailable(f"no answer from InfluxDB: {error}") from error


def _refused_request(error: Any) -> Exception:
    if not error.status:  # the client wraps what TLS says into an answer with status 0
        return _tls_error(str(error.reason))
    body = (
        error.body if isinstance(error.body, str) else (error.body or b"").decode(errors="replace")
    )
    headers = error.headers or {}
    retry_after = parse_retry_after(headers.get("Retry-After"), datetime.now(UTC))
    return write_error(error.status, body, retry_after) or Unavailable(f"{error.status}")


def _tls_error(words: str) -> Exception:
    """A certificate that is not trusted stays so; everything else about TLS may pass."""
    said = f"TLS to InfluxDB failed: {' '.join(words.split())}"
    return Misconfigured(said) if "certificate" in words.lower() else Unavailable(said)


class ReadsInTime(RawIOBase):
    """What a connection receives; after so many seconds no further read begins."""

    def __init__(self, received: RawIOBase, seconds: float) -> None:
        self._received = received
        self._seconds = seconds
        self._started = monotonic()

    def readable(self) -> bool:
        """Say so to the buffer that reads from here."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Receive what there is. Raises Unavailable when the answer took too long."""
        if monotonic() - self._started > self._seconds:
            raise Unavailable(f"no answer from InfluxDB within {self._seconds:g} s")
        return self._received.readinto(buffer)

    def close(self) -> None:
        """Let go of the connection."""
        self._received.close()
        super().close()


class AnswerInTime(HTTPResponse):
    """An answer that raises Unavailable when status, headers and body are not there in time."""

    def __init__(self, seconds: float, *connection: Any, **request: Any) -> None:
        super().__init__(*connection, **request)
        # Only here every byte passes: the status and each header are read by the line.
        self.fp = BufferedReader(ReadsInTime(self.fp.detach(), seconds))


def bound_answers(manager: Any, seconds: float) -> None:
    """Give every answer to a urllib3 pool manager (1.26 or 2) so many seconds from its request."""
    in_time = staticmethod(partial(AnswerInTime, seconds))

    def bounded(pool: Any) -> Any:
        connection = type("ConnectionInTime", (pool.ConnectionCls,), {"response_class": in_time})
        return type("ConnectionPoolInTime", (pool,), {"ConnectionCls": connection})

    manager.pool_classes_by_scheme = {
        scheme: bounded(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }
