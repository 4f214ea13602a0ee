"""The embedded event store: events in one SQLite file, written by the sidecar alone."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from pydantic import ValidationError

from shared.adapters.embedded_rows import EPOCH, MILLISECOND, SUMMED, insert, milliseconds
from shared.adapters.embedded_schema import connect, open_store
from shared.domain.event import UsageEvent
from shared.domain.rows import HostRow, UnmeteredRow, UserRow
from shared.errors import DeliveryError, InvalidEvent, Misconfigured, Unavailable
from shared.ports import (
    BUCKET,
    Fingerprint,
    SpooledRow,
    StoreHealth,
    UsageGroup,
    UsageSums,
    Window,
    WriteResult,
)

_BUCKET_MS = BUCKET // MILLISECOND
_EDGE = timedelta(hours=1)
_IN_WINDOW = "occurred_at_ms >= ? AND occurred_at_ms < ?"
_Stored = TypeVar("_Stored", UsageEvent, UnmeteredRow, HostRow, UserRow)


class EmbeddedStore:
    """An EventStore in one SQLite file.

    Writers of this process take turns; a reading sees one state of the file and holds no one up.
    Raises ConfigError for a file of a later version, Unavailable or Misconfigured for a bad disk.
    """

    name = "embedded"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = Lock()
        with disk_errors_mapped(path):
            self._writer = open_store(path)

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write rows in one transaction; rows that are stored already stay as they are."""
        result = WriteResult()
        with self._transaction() as connection:
            for position, row in enumerate(rows):
                try:
                    insert(connection, row)
                except InvalidEvent as error:
                    result.rejected.append((position, str(error)))
                else:
                    result.accepted.append(position)
        return result

    def usage(self, window: Window) -> list[UsageGroup]:
        """Add up all events of the window, observation by observation."""
        sums = ", ".join(_split_sum(column) for column in SUMMED)
        found = self._read(
            "SELECT client_org_id, external_user, model, task, source, count(*),"  # noqa: S608
            " sum(cost_pico_usd IS NULL), count(estimated_pico_usd), "
            f"{sums} FROM events WHERE {_IN_WINDOW} GROUP BY 1, 2, 3, 4, 5",
            _bounds(window),
        )
        return [_group(row) for row in found]

    def is_unique(self, window: Window) -> bool:
        """Tell whether no bill was observed twice in the window and an hour beyond its edges."""
        [(repeated,)] = self._read(
            f"SELECT count(*) - count(DISTINCT request_id) FROM events WHERE {_IN_WINDOW}",  # noqa: S608
            _bounds(Window(window.start - _EDGE, window.end + _EDGE)),
        )
        return bool(repeated == 0)

    def events(self, window: Window) -> Iterator[UsageEvent]:
        """Return all events of the window in the order of their time."""
        sql = f"SELECT json FROM events WHERE {_IN_WINDOW} ORDER BY occurred_at_ms"  # noqa: S608
        return self._read_as(UsageEvent, sql, _bounds(window))

    def fingerprints(self, window: Window) -> dict[datetime, Fingerprint]:
        """Return what each 15-minute bucket of the window holds."""
        found = self._read(
            f"SELECT occurred_at_ms / {_BUCKET_MS}, count(*), "  # noqa: S608
            f"{_split_sum('cost_pico_usd')}, {_split_sum('total_tokens')} "
            f"FROM events WHERE {_IN_WINDOW} GROUP BY 1",
            _bounds(window),
        )
        return {
            EPOCH + bucket * BUCKET: Fingerprint(count, *_joined(halves))
            for bucket, count, *halves in found
        }

    def unmetered(self, window: Window) -> list[UnmeteredRow]:
        """Return the unmetered rows of the window in the order of their time."""
        sql = f"SELECT json FROM unmetered WHERE {_IN_WINDOW} ORDER BY occurred_at_ms"  # noqa: S608
        return list(self._read_as(UnmeteredRow, sql, _bounds(window)))

    def hosts(self) -> list[HostRow]:
        """Return the newest row of every host."""
        return list(self._read_as(HostRow, "SELECT json FROM hosts ORDER BY host_id"))

    def users(self) -> list[UserRow]:
        """Return the newest row of every user."""
        return list(self._read_as(UserRow, "SELECT json FROM users ORDER BY user_id"))

    def delete_import(self, import_id: str) -> int:
        """Delete exactly the events of one import and return how many there were."""
        with self._transaction() as connection:
            return connection.execute(
                "DELETE FROM events WHERE source = ?", (f"import:{import_id}",)
            ).rowcount

    def health(self) -> StoreHealth:
        """Try to read and to begin a write; never raises."""
        try:
            [(holds_events,)] = self._read("SELECT EXISTS (SELECT 1 FROM events)")
            with self._transaction():
                pass
        except DeliveryError as error:
            return StoreHealth(False, str(error))
        return StoreHealth(
            True, f"{self.path} holds {'events' if holds_events else 'no event yet'}"
        )

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._turn:
            self._writer.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._turn, disk_errors_mapped(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

    def _read(self, sql: str, bounds: tuple[int, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Run a query on a connection of its own, open until the last row was taken."""
        with disk_errors_mapped(self.path), closing(connect(self.path)) as connection:
            yield from connection.execute(sql, bounds)

    def _read_as(
        self, model: type[_Stored], sql: str, bounds: tuple[int, ...] = ()
    ) -> Iterator[_Stored]:
        with disk_errors_mapped(self.path):
            for (text,) in self._read(sql, bounds):
                yield model.model_validate_json(text)


@contextmanager
def disk_errors_mapped(path: Path) -> Iterator[None]:
    """Say every trouble of the disk in the words of the event store's port."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise Unavailable(f"{path}: {error}") from error
    except sqlite3.Error as error:
        raise Misconfigured(f"{path}: {error}") from error
    except ValidationError as error:
        raise Misconfigured(f"{path} holds a row that cannot be read: {error.title}") from None


def _bounds(window: Window) -> tuple[int, int]:
    return milliseconds(window.start), milliseconds(window.end)


def _split_sum(column: str) -> str:
    """Add halves of 32 bits: SQLite's own sum raises an error beyond 63 bits."""
    return f"ifnull(sum({column} >> 32), 0), ifnull(sum({column} & 4294967295), 0)"


def _joined(halves: Sequence[int]) -> list[int]:
    return [(high << 32) + low for high, low in zip(halves[::2], halves[1::2], strict=True)]


def _group(row: tuple[Any, ...]) -> UsageGroup:
    organization, user, model, task, source, events, pending, estimated, *halves = row
    sums = dict(zip(SUMMED, _joined(halves), strict=True))
    return UsageGroup(
        client_org_id=organization,
        external_user=user,
        model=model,
        task=task,
        source=source,
        sums=UsageSums(events=events, pending=pending, estimated=estimated, **sums),
    )
