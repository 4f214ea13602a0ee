"""Bodies as Open WebUI sends them, one believable thing each, any field of it replaced."""

import copy
from decimal import Decimal
from typing import Any

from tests.support.builders import ALICE
from tests.support.builders import generation_id as id_at

ALICE_HERSELF = {"id": ALICE, "name": "Alice", "email": "alice@example.org", "role": "user"}
RECORD: dict[str, Any] = {
    "id": "openai/gpt-5-mini",
    "canonical_slug": "openai/gpt-5-mini",
    "pricing": {"prompt": "0.00000025", "completion": "0.000002"},
    "top_provider": {},
}
PRESET = {"id": "law", "info": {"base_model_id": "openai/gpt-5-mini"}}
FOREIGN = {"id": "local-llama", "owned_by": "openai"}


def generation_id(number: int = 1) -> str:
    """Return an id of the past: an event of the future would wait in quarantine."""
    return id_at(number, seconds=1_795_000_000)


def metadata(**fields: Any) -> dict[str, Any]:
    """Return the metadata that all Function hooks of an answer share."""
    return {"user_id": ALICE, "chat_id": "chat-1", "message_id": "message-1"} | fields


def chunk(number: int = 1, content: str = "", **fields: Any) -> dict[str, Any]:
    """Return a chunk of the stream of a generation."""
    choices = [{"index": 0, "delta": {"role": "assistant", "content": content}}]
    return {
        "id": generation_id(number),
        "model": "openai/gpt-5-mini",
        "provider": "OpenAI",
        "choices": choices,
    } | fields


def last_chunk(number: int = 1, output: int = 9) -> dict[str, Any]:
    """Return the chunk that ends a stream with its usage."""
    return chunk(number, choices=[], usage=usage(output))


def usage(output: int = 9, **fields: Any) -> dict[str, Any]:
    """Return a usage object that costs a microdollar per token of output."""
    return {
        "prompt_tokens": 9,
        "completion_tokens": output,
        "total_tokens": 9 + output,
        "cost": float(Decimal(output).scaleb(-6)),
    } | fields


def outlet(
    model: str = "openai/gpt-5-mini", name: str = "message-1", **used: Any
) -> dict[str, Any]:
    """Return an outlet body whose answer cost 9 microdollars."""
    message = {"id": name, "role": "assistant", "usage": usage() | used}
    return {"id": name, "chat_id": "chat-1", "model": model, "messages": [message]}


def request(record: dict[str, Any] = RECORD, **fields: Any) -> dict[str, Any]:
    """Return the Pipelines inlet of a chat; `metadata` adds to its metadata."""
    known = {"chat_id": "chat-1", "message_id": "message-1", "model": record}
    known |= fields.pop("metadata", {})
    body = {"model": record["id"], "messages": [], "stream": True, "metadata": known}
    return copy.deepcopy(body | fields)


def continued(record: dict[str, Any] = RECORD) -> dict[str, Any]:
    """Return the inlet of an answer that is continued."""
    return request(record, metadata={"assistant_message_id": "message-1"})


def task(
    name: str = "title_generation", record: dict[str, Any] = RECORD, **fields: Any
) -> dict[str, Any]:
    """Return the Pipelines inlet of a background task."""
    body = request(record, stream=False, **fields)
    del body["metadata"]["message_id"]
    body["metadata"]["task"] = name
    return body
