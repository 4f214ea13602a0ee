"""Route: usage that is posted here, by OpenRouter's Broadcast or in the original system's form."""

from json import JSONDecodeError, loads
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from scheduler.api.errors import ApiError
from scheduler.api.manual import BookedBody, booked_body
from scheduler.api.sidecar_of import Here

router = APIRouter(tags=["recording"])

_ORIGINAL = {
    "type": "object",
    "description": "the original system's body",
    "required": ["model"],
    "properties": {
        "api_key": {"type": "string", "description": "becomes a hash, is never stored"},
        "user_id": {"type": "string"},
        "external_user": {"type": "string"},
        "model": {"type": "string"},
        "tokens_used": {"type": "integer", "minimum": 0},
        "cost": {"type": "number", "minimum": 0, "description": "US dollars"},
        "timestamp": {"type": "string", "description": "needed without request_id"},
        "request_id": {"type": "string"},
    },
}
_BROADCAST = {
    "type": "object",
    "description": "OTLP JSON, as OpenRouter's Broadcast sends it",
    "required": ["resourceSpans"],
    "properties": {"resourceSpans": {"type": "array"}},
}
_CONTENT = {
    "requestBody": {
        "content": {"application/json": {"schema": {"anyOf": [_ORIGINAL, _BROADCAST]}}},
    }
}


class WebhookAnswer(BaseModel):
    """What was booked, durably, and why parts of the delivery were not."""

    booked: list[BookedBody]
    refused: list[str]


@router.post("/webhook/openrouter-usage", openapi_extra=_CONTENT)
async def openrouter_usage(request: Request, sidecar: Here) -> WebhookAnswer:
    """Book a delivery; the answer comes when it is durable.

    An empty body, or one with the header X-Test-Connection, is a test of the connection.
    """
    raw = await request.body()
    if not raw.strip() or request.headers.get("x-test-connection"):
        return WebhookAnswer(booked=[], refused=[])
    delivered = await run_in_threadpool(sidecar.intake.webhook, _json_object(raw))
    if delivered.refused and not delivered.booked:
        raise delivered.refused[0]
    return WebhookAnswer(
        booked=[booked_body(each) for each in delivered.booked],
        refused=[f"{error.field}: {error.reason}" for error in delivered.refused],
    )


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        body = loads(raw)
    except (JSONDecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise ApiError(422, "invalid_value", "the body is no JSON") from None
    if not isinstance(body, dict):
        raise ApiError(422, "invalid_value", "the body must be a JSON object")
    return body
