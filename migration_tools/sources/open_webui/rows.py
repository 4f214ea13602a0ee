"""Rows of Open WebUI's database, SQLite or PostgreSQL, read without changing anything."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from json import loads
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from shared.capture.openwebui import json_object, openwebui_id
from shared.core.ids import digest
from shared.errors import MigrationError

_MESSAGES = """
    SELECT chat_id, id, user_id, model_id, created_at, usage FROM chat_message
    WHERE role = 'assistant' AND created_at >= :start AND created_at < :end
    ORDER BY chat_id, created_at, id
"""
_CHATS = "SELECT id, user_id, chat FROM chat WHERE updated_at >= :start ORDER BY id"


@dataclass(frozen=True, kw_only=True)
class StoredAnswer:
    """An answer with both of its usage records: `kept` in the table, `shown` in the chat's JSON."""

    chat_id: str
    message_id: str
    user_id: str
    model_id: str
    created_at: int
    timestamp: object
    kept: Mapping[str, Any] | None
    shown: Mapping[str, Any] | None


class OpenWebuiRows:
    """The tables that hold usage. Any error of the database becomes a MigrationError."""

    def __init__(self, database_url: str) -> None:
        self._engine = _open(database_url)
        with self._reading() as connection:
            tables = set(inspect(connection).get_table_names())
        if "chat" not in tables:
            raise MigrationError("this is no database of Open WebUI: it has no table chat")
        # Before Open WebUI had this table, a chat's JSON was all there was.
        self._has_messages = "chat_message" in tables
        self._tables = tables

    def identity(self) -> str:
        """Derive a name from the first user: it stays while the database grows or is copied."""
        first = None
        if "user" in self._tables:
            query = 'SELECT id, created_at FROM "user" ORDER BY created_at, id LIMIT 1'
            with self._reading() as connection:
                first = connection.execute(text(query)).first()
        return digest(["open-webui", *(str(part) for part in first or ())], size=4)

    def base_models(self) -> dict[str, str]:
        """Return the base model of each preset."""
        if "model" not in self._tables:
            return {}
        query = "SELECT id, base_model_id FROM model WHERE base_model_id IS NOT NULL"
        with self._reading() as connection:
            return {row[0]: row[1] for row in connection.execute(text(query))}

    def answers(self, start: int, end: int) -> Iterator[StoredAnswer]:
        """Return all answers made in a span of seconds, one chat in memory at a time."""
        with self._reading() as connection, self._reading() as chats:
            if self._has_messages:
                yield from _from_messages(connection, chats, {"start": start, "end": end})
            else:
                yield from _from_chats(connection, start, end)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection.execution_options(stream_results=True, max_row_buffer=500)
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
            raise MigrationError(f"Open WebUI's database cannot be read: {reason}") from error


def _open(database_url: str) -> Engine:
    """Open a URL as Open WebUI writes it, or the path of a SQLite file, for reading."""
    if "://" not in database_url:
        database_url = f"sqlite:///{database_url}"
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise MigrationError("--from is no database URL") from error
    if url.drivername.startswith("postgres"):
        return create_engine(url.set(drivername="postgresql+psycopg"))
    path = Path(url.database or "")
    if not path.is_file():
        raise MigrationError(f"{path}: there is no such file")
    return create_engine(f"sqlite:///{path.absolute().as_uri()}?mode=ro&uri=true")


def _from_messages(
    connection: Connection, chats: Connection, bounds: Mapping[str, int]
) -> Iterator[StoredAnswer]:
    found = connection.execute(text(_MESSAGES), bounds)
    for chat_id, rows in groupby(found, key=lambda row: row.chat_id):
        kept = [(row, _object(row.usage)) for row in rows]
        if not any(usage for _, usage in kept):
            continue
        shown = _messages_of(chats, chat_id)
        for row, usage in kept:
            message_id = str(row.id).removeprefix(f"{chat_id}-")
            message = json_object(shown.get(message_id))
            if usage:
                yield StoredAnswer(
                    chat_id=openwebui_id(chat_id),
                    message_id=openwebui_id(message_id),
                    user_id=str(row.user_id or ""),
                    model_id=str(row.model_id or ""),
                    created_at=int(row.created_at),
                    timestamp=message.get("timestamp"),
                    kept=usage,
                    shown=json_object(message.get("usage")) or None,
                )


def _from_chats(connection: Connection, start: int, end: int) -> Iterator[StoredAnswer]:
    for row in connection.execute(text(_CHATS), {"start": start}):
        for message_id, found in sorted(_history(row.chat).items()):
            message = json_object(found)
            at = message.get("timestamp")
            usage = json_object(message.get("usage"))
            if usage and isinstance(at, int | float) and start <= at < end:
                yield StoredAnswer(
                    chat_id=openwebui_id(row.id),
                    message_id=openwebui_id(message_id),
                    user_id=str(row.user_id or ""),
                    model_id=str(message.get("model") or ""),
                    created_at=int(at),
                    timestamp=at,
                    kept=None,
                    shown=usage,
                )


def _messages_of(chats: Connection, chat_id: str) -> Mapping[str, Any]:
    query = text("SELECT chat FROM chat WHERE id = :id")
    return _history(chats.execute(query, {"id": chat_id}).scalar())


def _history(chat: object) -> Mapping[str, Any]:
    return json_object(json_object(_object(chat).get("history")).get("messages"))


def _object(value: object) -> dict[str, Any]:
    """Return a JSON column as an object: SQLite gives text, PostgreSQL what was in it."""
    if isinstance(value, str | bytes):
        try:
            value = loads(value)
        except ValueError:
            return {}
    return json_object(value)
