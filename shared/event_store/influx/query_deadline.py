"""A deadline for answers over httpx: it bounds each read, and one byte a second is many reads."""

from ssl import SSLContext
from time import monotonic
from typing import Any

import httpcore
import httpx

from shared.errors import Unavailable

# The timeout of a read bounds the first byte; the whole may take as long again, and longer only
# while it moves at this rate: a stream of millions of rows takes the time it takes.
_ANSWER_PER_TIMEOUT = 2
_SLOWEST_BYTES_PER_SECOND = 1000


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
