"""Builders for tests: one believable thing each, any field of it replaced by keyword."""

from datetime import UTC, datetime
from typing import Any

from shared.core.event import UsageEvent, new_event
from shared.core.rows import UnmeteredRow

ALICE, BOB, CHARLIE = "alice-id", "bob-id", "charlie-id"
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NOON_SECONDS = int(NOON.timestamp())


def generation_id(number: int = 1, seconds: int = NOON_SECONDS) -> str:
    """Return an id in OpenRouter's form."""
    return f"gen-{seconds}-{number:020d}"


def settled(**fields: Any) -> UsageEvent:
    """Return a generation of Alice's that cost 20.25 microdollars."""
    defaults: dict[str, Any] = {
        "request_id": generation_id(),
        "grain": "generation",
        "occurred_at": NOON,
        "external_user": ALICE,
        "model": "openai/gpt-5-mini",
        "source": "function",
        "input_tokens": 9,
        "output_tokens": 9,
        "total_tokens": 18,
        "cost_usd": 2.025e-05,
        "cost_source": "response",
        "chat_id": "chat-1",
        "message_id": "message-1",
    }
    return new_event(**(defaults | fields))


def pending(**fields: Any) -> UsageEvent:
    """Return the same generation before its cost is known."""
    unknown = {
        "cost_usd": None,
        "cost_source": "none",
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
    }
    return settled(**(unknown | fields))


def turn(**fields: Any) -> UsageEvent:
    """Return a whole answer of Alice's as a Pipelines outlet shows it."""
    whole = {
        "request_id": "turn:chat-1:message-1",
        "grain": "turn",
        "source": "pipeline",
        "cost_source": "outlet",
    }
    return settled(**(whole | fields))


def unmetered(**fields: Any) -> UnmeteredRow:
    """Return a title generation of Alice's whose cost no hook shows."""
    defaults: dict[str, Any] = {
        "request_id": "task:1",
        "occurred_at": NOON,
        "external_user": ALICE,
        "model": "openai/gpt-5-mini",
        "task": "title_generation",
        "chat_id": "chat-1",
    }
    return UnmeteredRow(**(defaults | fields))
