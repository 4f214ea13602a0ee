"""Builders of Open WebUI's own database, as its tables are in 0.12."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    insert,
)

from tests.support.builders import ALICE

AT = 1_763_985_600  # 2025-11-24 12:00 UTC
METADATA = MetaData()
USERS = Table(
    "user", METADATA, Column("id", String, primary_key=True), Column("created_at", BigInteger)
)
MODELS = Table(
    "model", METADATA, Column("id", Text, primary_key=True), Column("base_model_id", Text)
)
CHATS = Table(
    "chat",
    METADATA,
    Column("id", String, primary_key=True),
    Column("user_id", String),
    Column("chat", JSON),
    Column("updated_at", BigInteger),
)
MESSAGES = Table(
    "chat_message",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("chat_id", Text),
    Column("user_id", Text),
    Column("role", Text),
    Column("model_id", Text),
    Column("usage", JSON),
    Column("created_at", BigInteger),
)


def usage(cost: object = 2.025e-05, tokens: int = 18, **more: Any) -> dict[str, Any]:
    """Return a usage object as Open WebUI keeps it."""
    return {
        "prompt_tokens": tokens // 2,
        "completion_tokens": tokens - tokens // 2,
        "input_tokens": tokens // 2,
        "output_tokens": tokens - tokens // 2,
        "total_tokens": tokens,
        "cost": cost,
        "is_byok": False,
    } | more


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A saved answer: `kept` in the table of messages, `shown` in the chat (None: the same)."""

    chat_id: str = "chat-1"
    message_id: str = "message-1"
    user_id: str = ALICE
    model: str = "openai/gpt-5-mini"
    at: int = AT
    kept: Mapping[str, Any] | None = field(default_factory=usage)
    shown: Mapping[str, Any] | None = None


def open_webui_database(url: str, answers: Sequence[Saved], *, with_messages: bool = True) -> str:
    """Write a database; without the table of messages it is one of an older Open WebUI."""
    engine = create_engine(url)
    tables = [USERS, MODELS, CHATS, *([MESSAGES] if with_messages else [])]
    METADATA.create_all(engine, tables=tables)
    with engine.begin() as db:
        db.execute(insert(USERS).values(id="admin-id", created_at=1))
        db.execute(insert(MODELS).values(id="helper", base_model_id="anthropic/claude-haiku-4.5"))
        for chat_id in sorted({each.chat_id for each in answers}):
            of_chat = [each for each in answers if each.chat_id == chat_id]
            db.execute(insert(CHATS).values(_chat(chat_id, of_chat)))
        if with_messages and answers:
            db.execute(insert(MESSAGES), [_message(each) for each in answers])
    engine.dispose()
    return url


def _chat(chat_id: str, answers: Sequence[Saved]) -> dict[str, Any]:
    messages = {
        each.message_id: {
            "role": "assistant",
            "model": each.model,
            "timestamp": each.at,
            "usage": each.kept if each.shown is None else each.shown,
        }
        for each in answers
    }
    return {
        "id": chat_id,
        "user_id": answers[0].user_id,
        "chat": {"history": {"messages": messages}},
        "updated_at": max(each.at for each in answers),
    }


def _message(each: Saved) -> dict[str, Any]:
    return {
        "id": f"{each.chat_id}-{each.message_id}",
        "chat_id": each.chat_id,
        "user_id": each.user_id,
        "role": "assistant",
        "model_id": each.model,
        "usage": each.kept,
        "created_at": each.at,
    }
