"""The embedded event store: events in one SQLite file, written by the sidecar alone."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from json import dumps
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from pydantic import ValidationError

from shared.core.event import UsageEvent
from shared.core.rows import HostRow, UnmeteredRow, UserRow
from shared.core.time import EPOCH
from shared.delivery.port import WriteResult
from shared.errors import DeliveryError, InvalidEvent, Misconfigured, Unavailable
from shared.event_store.overlaps import EventIdentity
from shared.event_store.port import BUCKET, Fingerprint, StoreHealth, UsageGroup, Window
from shared.event_store.sqlite.schema import connect, open_store
from shared.event_store.sqlite.sql import (
    ANSWERS,
    BILLS,
    COUNT,
    EVENTS,
    FINGERPRINTS,
    OF_BILLS,
    OF_MESSAGES,
    REPEATED,
    SUMS,
    TURN_COUNT,
    UNMETERED,
    bounds,
    group_of,
    insert,
    joined,
)
from shared.spool.port import SpooledRow

_Stored = TypeVar("_Stored", UsageEvent, UnmeteredRow, HostRow, UserRow)


class EmbeddedStore:
    """An EventStore in one SQLite file.

    Writers of this process take turns; a reading sees one state of the file and holds no one up.
    Raises ConfigError for a file of a later version, Unavailable or Misconfigured for a bad disk.
    """

    name = "embedded"
    shows_batches_whole = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = Lock()
        with disk_errors_mapped(path):
            self._writer = open_store(path)

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        """Return the rows as they are: rows are stored as they were spooled."""
        return rows

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
        return [group_of(row) for row in self._read(SUMS, bounds(window))]

    def repeated(self, window: Window) -> list[UsageEvent]:
        """Return the events of every bill that was observed more than once in the window."""
        bills = [bill for (bill,) in self._read(REPEATED, bounds(window))]
        return list(self.events_about(window, bills)) if bills else []

    def grains(self, window: Window) -> set[str]:
        """Return which of `generation` and `turn` the events of the window are."""
        [(turns,)] = self._read(TURN_COUNT, bounds(window))
        [(events,)] = self._read(COUNT, bounds(window))
        counts = {"turn": turns, "generation": events - turns}
        return {grain for grain, count in counts.items() if count}

    def identities(self, window: Window, *, answers: bool) -> Iterator[EventIdentity]:
        """Return the identity of every event of the window."""
        found = self._read(ANSWERS if answers else BILLS, bounds(window))
        return (EventIdentity(*row) for row in found)

    def events(self, window: Window) -> Iterator[UsageEvent]:
        """Return all events of the window in the order of their time."""
        return self._read_as(UsageEvent, EVENTS, bounds(window))

    def events_about(
        self,
        window: Window,
        request_ids: Collection[str] = (),
        message_ids: Collection[str] = (),
    ) -> Iterator[UsageEvent]:
        """Return those events of the window that have one of these ids."""
        bills, messages = dumps(list(request_ids)), dumps(list(message_ids))
        yield from self._read_as(UsageEvent, OF_BILLS, (bills, *bounds(window)))
        if message_ids:
            about = (*bounds(window), messages, bills)
            yield from self._read_as(UsageEvent, OF_MESSAGES, about)

    def fingerprints(self, window: Window) -> dict[datetime, Fingerprint]:
        """Return what each 15-minute bucket of the window holds."""
        return {
            EPOCH + bucket * BUCKET: Fingerprint(count, *joined(halves))
            for bucket, count, *halves in self._read(FINGERPRINTS, bounds(window))
        }

    def unmetered(self, window: Window) -> list[UnmeteredRow]:
        """Return the unmetered rows of the window in the order of their time."""
        return list(self._read_as(UnmeteredRow, UNMETERED, bounds(window)))

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

    def _read(self, sql: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Run a query on a connection of its own, open until the last row was taken."""
        with disk_errors_mapped(self.path), closing(connect(self.path)) as connection:
            yield from connection.execute(sql, values)

    def _read_as(
        self, model: type[_Stored], sql: str, values: tuple[object, ...] = ()
    ) -> Iterator[_Stored]:
        with disk_errors_mapped(self.path):
            for (text,) in self._read(sql, values):
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
