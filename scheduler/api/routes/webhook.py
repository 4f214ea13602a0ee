"""Route: usage that is posted here, by OpenRouter's Broadcast or in the original system's form."""

from json import JSONDecodeError, loads
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.api.errors import ApiError
from scheduler.ingest.ingest import RecordedEvent
from shared.errors import InvalidEvent

router = APIRouter(tags=["recording"])

_ORIGINAL_EXAMPLE = {
    "api_key": "sk-or-v1-... (becomes a hash, is never stored)",
    "external_user": "Open WebUI's id of the user",
    "model": "openai/gpt-5-mini",
    "tokens_used": 18,
    "cost": 0.00002025,
    "timestamp": "2026-11-24T12:00:00Z",
    "request_id": "gen-1795521600-...",
}
_SPANS: list[object] = []
_BROADCAST_EXAMPLE = {"resourceSpans": _SPANS}
# Two formats of others, taken as they come: what a body must have is said by the answer.
_CONTENT = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "examples": {
                    "the original system's body": {"value": _ORIGINAL_EXAMPLE},
                    "OpenRouter's Broadcast (OTLP JSON)": {"value": _BROADCAST_EXAMPLE},
                },
            }
        },
    }
}


class WebhookAnswer(BaseModel):
    """What was booked, durably, and why parts of the delivery were not."""

    booked: list[RecordedEvent]
    refused: list[str]


@router.post("/webhook/openrouter-usage", openapi_extra=_CONTENT)
async def openrouter_usage(request: Request, sidecar: SidecarDep) -> WebhookAnswer:
    """Book a delivery; the answer comes when it is durable.

    An empty body, or one with the header X-Test-Connection, is a test of the connection.
    """
    raw = await request.body()
    if not raw.strip() or request.headers.get("x-test-connection"):
        return WebhookAnswer(booked=[], refused=[])
    try:
        result = await run_in_threadpool(sidecar.ingest.webhook, _json_object(raw))
    except InvalidEvent as error:
        raise _refused(error) from None
    if result.refused and not result.booked:
        raise _refused(result.refused[0])
    return WebhookAnswer(
        booked=result.booked,
        refused=[f"{error.field}: {error.reason}" for error in result.refused],
    )


def _refused(error: InvalidEvent) -> ApiError:
    return ApiError(409, "invalid_value", str(error), error.field)


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        body = loads(raw)
    except (JSONDecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise ApiError(422, "invalid_value", "the body is no JSON") from None
    if not isinstance(body, dict):
        raise ApiError(422, "invalid_value", "the body must be a JSON object")
    return body
