"""A deadline for a whole answer: urllib3 bounds each read, and one byte a second is many reads."""

from functools import partial
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from time import monotonic
from typing import Any

from shared.errors import Unavailable


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
