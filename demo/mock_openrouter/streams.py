"""Streaming an answer of the mock OpenRouter: frames, comments and pauses."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from demo.mock_openrouter.answers import Answer

_COMMENT = b": OPENROUTER PROCESSING\n\n"
_HOLD_SECONDS, _STEP_SECONDS = 60.0, 0.1
_PIECE_BYTES = 40
_WORDS_BEFORE_HOLD = 3


class Gate:
    """Answers wait here because of `[[hold]]`."""

    def __init__(self) -> None:
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    async def held(self) -> AsyncIterator[bytes]:
        """Send comments until released; only sending detects that a client is gone."""
        released = self._released
        for _ in range(int(_HOLD_SECONDS / _STEP_SECONDS)):
            if released.is_set():
                return
            yield _COMMENT
            await asyncio.sleep(_STEP_SECONDS)


async def send(answer: Answer, gate: Gate) -> AsyncIterator[bytes]:
    """Send an answer as server-sent events, and record in the ledger how it ended."""
    generation = answer.generation
    try:
        yield _COMMENT
        for number, chunk in enumerate(answer.chunks()):
            if "hold" in generation.words and number == answer.words_begin + _WORDS_BEFORE_HOLD:
                async for comment in gate.held():
                    yield comment
            async for comment in _pauses(generation.words, number):
                yield comment
            for frame in _frames(chunk, in_pieces="split" in generation.words):
                yield frame
        if generation.status == "open":
            generation.status, generation.finish_reason = "ok", answer.finish_reason
        yield b"data: [DONE]\n\n"
    finally:
        if generation.status == "open":  # the client is gone: what was produced is billed
            generation.status = "cancelled"


async def _pauses(words: Mapping[str, str], number: int) -> AsyncIterator[bytes]:
    """Pause before a chunk as the prompt asks: before each, the first, or a middle one."""
    asked = {"slow": True, "first": number == 0, "pause": number == _WORDS_BEFORE_HOLD}
    seconds = sum(float(words.get(word) or 0) for word, is_due in asked.items() if is_due)
    while seconds > _STEP_SECONDS:
        seconds -= _STEP_SECONDS
        await asyncio.sleep(_STEP_SECONDS)
        yield _COMMENT
    await asyncio.sleep(seconds)


def _frames(chunk: Mapping[str, Any], *, in_pieces: bool) -> list[bytes]:
    frame = f"data: {json.dumps(chunk)}\n\n".encode()
    if not in_pieces:
        return [frame]
    return [frame[start : start + _PIECE_BYTES] for start in range(0, len(frame), _PIECE_BYTES)]
