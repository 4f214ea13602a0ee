"""A mock OpenRouter with exact books, and beside it a strict foreign server, for demo and tests.

`python -m demo.mock_openrouter --port 9191` serves OpenRouter's API under `/api/v1`, the foreign
one under `/foreign/v1`, a proxy in front of OpenRouter under `/proxy/v1`, the books under
`/__ledger`.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from demo.mock_answers import Answer, last_prompt, text_of, tool_step, words_of
from demo.mock_ledger import DATED_NAMES, PRICES, ROUTER, ROUTER_CHOICE, Generation, Ledger
from demo.mock_models import (
    BEHIND_PROXY,
    PROXIED_MODEL,
    foreign_models,
    openrouter_models,
    proxied_models,
)

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
# Sent by the test installation's connection so that the books can be split as Open WebUI sees it.
_SENT_BY_PREFIX = "x-ledger-"
_COMMENT = b": OPENROUTER PROCESSING\n\n"
_HOLD_SECONDS, _HOLD_STEP_SECONDS = 60, 0.1


class MockOpenRouter:
    """The two servers and their one ledger."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._released = asyncio.Event()

    def routes(self) -> list[Route]:
        """Return what the servers answer to."""
        return [
            Route("/api/v1/models", self.models),
            Route("/api/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/api/v1/generation", self.generation),
            Route("/foreign/v1/models", self.foreign),
            Route("/foreign/v1/chat/completions", self.foreign_chat, methods=["POST"]),
            Route("/proxy/v1/models", self.proxied),
            Route("/proxy/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/__ledger", self.books),
            Route("/__release", self.release, methods=["POST"]),
        ]

    async def models(self, request: Request) -> Response:
        """List the models with prices, as OpenRouter does."""
        return JSONResponse({"data": openrouter_models()})

    async def foreign(self, request: Request) -> Response:
        """List the models of the foreign server: plain OpenAI records."""
        return JSONResponse({"object": "list", "data": foreign_models()})

    async def proxied(self, request: Request) -> Response:
        """List the models of a proxy in front of OpenRouter."""
        return JSONResponse({"object": "list", "data": proxied_models()})

    async def generation(self, request: Request) -> Response:
        """Tell of one generation, late as OpenRouter does: the first question meets a 404."""
        record = self.ledger.record(request.query_params.get("id", ""))
        if record is None:
            return _error(404, "Generation not found")
        return JSONResponse({"data": record})

    async def books(self, request: Request) -> Response:
        """Return the ledger."""
        return JSONResponse([generation.row() for generation in self.ledger.generations])

    async def release(self, request: Request) -> Response:
        """Let every answer go on that `[[hold]]` keeps open."""
        self._released.set()
        self._released = asyncio.Event()
        return JSONResponse({})

    async def chat(self, request: Request) -> Response:
        """Answer a chat as OpenRouter."""
        return await self._answer(request, await request.json(), "openrouter")

    async def foreign_chat(self, request: Request) -> Response:
        """Answer a chat as the foreign server; a key it does not know is an error."""
        body = await request.json()
        unknown = sorted(set(body) - _FOREIGN_KEYS)
        if unknown:
            refused = self._begin(request, body, "foreign")
            refused.status, refused.completion_tokens = "refused", 0
            return _error(400, f"Unknown parameters: {', '.join(unknown)}")
        return await self._answer(request, body, "foreign")

    async def _answer(self, request: Request, body: dict[str, Any], connection: str) -> Response:
        generation = self._begin(request, body, connection)
        status = next((word for word in _STATUS_WORDS if word in generation.words), None)
        if status and ("later" not in generation.words or generation.is_later_step):
            generation.status = "refused"
            return _error(int(status), _STATUS_WORDS[status])
        answer = Answer(generation, body)
        headers = {"X-Generation-Id": generation.generation_id}
        if generation.stream:
            stream = self._stream(answer)
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
        message = answer.message()
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        generation.status, generation.finish_reason = "ok", answer.finish_reason
        body = answer.skeleton("chat.completion") | {"choices": [choice]}
        if generation.words.get("usage") != "never":
            body["usage"] = generation.usage()
        return JSONResponse(body, headers=headers)

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

    async def _stream(self, answer: Answer) -> AsyncIterator[bytes]:
        generation = answer.generation
        try:
            yield _COMMENT
            for number, chunk in enumerate(answer.chunks()):
                if "hold" in generation.words and number == 3:
                    async for comment in self._held():
                        yield comment
                await asyncio.sleep(float(generation.words.get("slow") or 0))
                for part in _frames(chunk, in_pieces="split" in generation.words):
                    yield part
            if generation.status == "open":
                generation.status, generation.finish_reason = "ok", answer.finish_reason
            yield b"data: [DONE]\n\n"
        finally:
            if generation.status == "open":  # the client is gone: what was produced is billed
                generation.status = "cancelled"

    async def _held(self) -> AsyncIterator[bytes]:
        """Send comments until released; only sending notices that a client is gone."""
        released = self._released
        for _ in range(int(_HOLD_SECONDS / _HOLD_STEP_SECONDS)):
            if released.is_set():
                return
            yield _COMMENT
            await asyncio.sleep(_HOLD_STEP_SECONDS)


def _frames(chunk: Mapping[str, Any], *, in_pieces: bool) -> list[bytes]:
    frame = f"data: {json.dumps(chunk)}\n\n".encode()
    if not in_pieces:
        return [frame]
    return [frame[start : start + 40] for start in range(0, len(frame), 40)]


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
    """Make the application with an empty ledger."""
    return Starlette(routes=MockOpenRouter().routes())


def main() -> None:
    """Serve on 127.0.0.1 until the process is told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9191)
    port = parser.parse_args().port
    uvicorn.run(build_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
