"""The servers of the mock: OpenRouter with an exact ledger, a strict foreign server, a proxy."""

import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from demo.mock_openrouter.answers import Answer, last_prompt, text_of, tool_step, words_of
from demo.mock_openrouter.ledger import (
    DATED_NAMES,
    PRICES,
    ROUTER,
    ROUTER_CHOICE,
    Generation,
    Ledger,
)
from demo.mock_openrouter.models import (
    BEHIND_PROXY,
    PROXIED_MODEL,
    foreign_models,
    openrouter_models,
    proxied_models,
)
from demo.mock_openrouter.responses import ResponseAnswer, chat_body
from demo.mock_openrouter.streams import Gate, send

_STATUS_WORDS = {"402": "Insufficient credits", "429": "Rate limit exceeded"}
# What a strict OpenAI-compatible server knows; anything else it answers with 400, as Mistral does.
_FOREIGN_KEYS = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "tools",
    "tool_choice",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "response_format",
}
# Sent by the test installation's connection so that the ledger can be split as Open WebUI sees it.
_SENT_BY_PREFIX = "x-ledger-"


class MockOpenRouter:
    """The servers and their one ledger."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._gate = Gate()

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/models", self.models),
            Route("/api/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/api/v1/responses", self.responses, methods=["POST"]),
            Route("/api/v1/generation", self.generation),
            Route("/foreign/v1/models", self.foreign),
            Route("/foreign/v1/chat/completions", self.foreign_chat, methods=["POST"]),
            Route("/proxy/v1/models", self.proxied),
            Route("/proxy/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/__ledger", self.show_ledger),
            Route("/__release", self.release, methods=["POST"]),
        ]

    async def models(self, request: Request) -> Response:
        return JSONResponse({"data": openrouter_models()})

    async def foreign(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": foreign_models()})

    async def proxied(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": proxied_models()})

    async def generation(self, request: Request) -> Response:
        """Return one generation's record, late as OpenRouter does: first comes a 404."""
        record = self.ledger.record(request.query_params.get("id", ""))
        if record is None:
            return _error(404, "Generation not found")
        return JSONResponse({"data": record})

    async def show_ledger(self, request: Request) -> Response:
        return JSONResponse([generation.row() for generation in self.ledger.generations])

    async def release(self, request: Request) -> Response:
        """Continue all answers that wait because of `[[hold]]`."""
        self._gate.release()
        return JSONResponse({})

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, await request.json(), "openrouter")

    async def responses(self, request: Request) -> Response:
        body = chat_body(await request.json())
        return await self._answer(request, body, "openrouter", ResponseAnswer)

    async def foreign_chat(self, request: Request) -> Response:
        """Answer as the foreign server; an unknown key of the body is an error."""
        body = await request.json()
        unknown = sorted(set(body) - _FOREIGN_KEYS)
        if unknown:
            refused = self._begin(request, body, "foreign")
            refused.status, refused.completion_tokens = "refused", 0
            return _error(400, f"Unknown parameters: {', '.join(unknown)}")
        return await self._answer(request, body, "foreign")

    async def _answer(
        self,
        request: Request,
        body: dict[str, Any],
        connection: str,
        shape: type[Answer] = Answer,
    ) -> Response:
        generation = self._begin(request, body, connection)
        status = next((word for word in _STATUS_WORDS if word in generation.words), None)
        if status and ("later" not in generation.words or generation.is_later_step):
            generation.status = "refused"
            return _error(int(status), _STATUS_WORDS[status])
        answer = shape(generation, body)
        headers = {"X-Generation-Id": generation.generation_id}
        if generation.stream:
            stream = send(answer, self._gate)
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
        text = json.dumps(answer.whole())  # NaN too, which a JSONResponse refuses
        return Response(text, media_type="application/json", headers=headers)

    def _begin(self, request: Request, body: Mapping[str, Any], connection: str) -> Generation:
        words = words_of(last_prompt(body["messages"]))
        requested = str(body["model"])
        answering = _answering_model(requested, words)
        prompt_tokens = sum(4 + len(text_of(message).split()) for message in body["messages"])
        generation = Generation(
            generation_id=self.ledger.new_id(connection),
            connection=connection,
            created=time.time(),
            requested_model=requested,
            model=DATED_NAMES.get(answering, answering) if "dated-name" in words else answering,
            price=PRICES.get(answering, PRICES["meta-llama/llama-4-scout:free"]),
            stream=bool(body.get("stream")),
            prompt_tokens=prompt_tokens,
            cached_tokens=prompt_tokens * 3 // 4 if "cached" in words else 0,
            cache_write_tokens=prompt_tokens // 4 if "cached" in words else 0,
            user=body.get("user"),
            session_id=body.get("session_id"),
            trace=body.get("trace"),
            sent_by=_sent_by(request),
            body_keys=sorted(body),
            words=words,
            is_later_step=tool_step(body["messages"]) > 0,
        )
        self.ledger.generations.append(generation)
        return generation


def _answering_model(requested: str, words: Mapping[str, str]) -> str:
    if requested == ROUTER:
        return ROUTER_CHOICE
    if requested == PROXIED_MODEL:
        return BEHIND_PROXY
    return "google/gemini-3-flash" if "other-model" in words else requested


def _sent_by(request: Request) -> dict[str, str]:
    return {
        name.removeprefix(_SENT_BY_PREFIX): value
        for name, value in request.headers.items()
        if name.startswith(_SENT_BY_PREFIX)
    }


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": status, "message": message}}, status)


def build_app() -> Starlette:
    return Starlette(routes=MockOpenRouter().routes())
