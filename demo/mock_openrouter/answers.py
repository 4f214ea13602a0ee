"""Answers of the mock OpenRouter: the words in a prompt that choose an oddity, and the chunks.

`[[word]]` or `[[word=value]]` in the last user message, so that a browser can ask for them too:
tools=N, usage=delta|finish-twice|never|running|repeat|grow|bare|with-finish, null-cost, no-cost,
string-cost, int-cost, nan-cost, byok, fees, discount, cached, reasoning, only-reasoning, image,
no-provider, dated-name, other-model, length=N, hold, slow=SECONDS, first=SECONDS, pause=SECONDS,
split, error-first, error-before-usage, error-after-usage, 402, 429, later (the status or the null
comes in the second step of a tool loop).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from demo.mock_openrouter.ledger import Generation

_WORD = re.compile(r"\[\[([a-z0-9-]+)(?:=([A-Za-z0-9_.-]+))?\]\]")
_PROVIDER = "MockProvider"
_PICTURE = "data:image/png;base64," + "A" * 200_000
CLOCK_TOOL = "mock_clock"
# Every background task of Open WebUI finds its answer here.
_TASK_ANSWER = json.dumps(
    {
        "title": "A mock talk",
        "tags": ["mock"],
        "follow_ups": ["And then?"],
        "queries": ["mock"],
        "text": "and so on",
    }
)
_TASK_PREFIXES = ("### Task:", "Query: History:", "You have been provided with a set of responses")


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, whether it is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def last_prompt(messages: Sequence[Mapping[str, Any]]) -> str:
    users = [message for message in messages if message.get("role") == "user"]
    return text_of(users[-1]) if users else ""


def is_task(prompt: str) -> bool:
    """Tell whether this is a background task of Open WebUI: a title, tags and the like."""
    return prompt.lstrip().startswith(_TASK_PREFIXES)


def words_of(prompt: str) -> dict[str, str]:
    """Return the words that choose an oddity; a task quotes a chat and chooses none."""
    return {} if is_task(prompt) else dict(_WORD.findall(prompt))


def tool_step(messages: Sequence[Mapping[str, Any]]) -> int:
    """Count the tool results since the last user message: the step of the loop."""
    steps = 0
    for message in reversed(messages):
        if message.get("role") == "user":
            break
        steps += message.get("role") == "tool"
    return steps


def calls_tool(body: Mapping[str, Any], words: Mapping[str, str]) -> bool:
    """Tell whether this generation ends with a tool call instead of text."""
    wanted = int(words.get("tools") or 1) if "tools" in words else 0
    return bool(body.get("tools")) and tool_step(body["messages"]) < wanted


def answer_text(prompt: str, words: Mapping[str, str]) -> list[str]:
    """Return the answer word by word."""
    if is_task(prompt):
        return [_TASK_ANSWER]
    return [f"word{number} " for number in range(int(words.get("length") or 6))]


def tool_call(body: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return a call of the clock if it is offered, else of the last tool."""
    names = [tool["function"]["name"] for tool in body["tools"]]
    name = CLOCK_TOOL if CLOCK_TOOL in names else names[-1]
    function = {"name": name, "arguments": "{}"}
    return {"index": 0, "id": f"call_{step}", "type": "function", "function": function}


class Answer:
    """One answer as the chunks of a stream; the generation counts tokens as they are sent."""

    words_begin = 0  # the first chunk that has a word

    def __init__(self, generation: Generation, body: Mapping[str, Any]) -> None:
        self.generation = generation
        self.words = generation.words
        self._text = answer_text(last_prompt(body["messages"]), self.words)
        self._call = (
            tool_call(body, tool_step(body["messages"])) if calls_tool(body, self.words) else None
        )

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self._call else "stop"

    def chunks(self) -> Iterator[dict[str, Any]]:
        """Yield content, then the end and the usage in the shape that the prompt asks for."""
        if "error-first" in self.words:
            yield self._error()
            return
        for delta in self._deltas():
            chunk = self._chunk(delta)
            if self.words.get("usage") == "running":
                chunk["usage"] = self.generation.usage()
            yield chunk
        yield from self._ending()

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        for delta in self._deltas():
            message["content"] += delta.get("content") or ""
            for key in ("tool_calls", "reasoning"):
                if delta.get(key):
                    message[key] = delta[key]
        return message

    def whole(self) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        message = self.message()
        if "error-first" in self.words:
            return {"id": self.generation.generation_id, "error": self._error()["error"]}
        self.generation.status, self.generation.finish_reason = "ok", self.finish_reason
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        body = self.skeleton("chat.completion") | {"choices": [choice]}
        return body if self.words.get("usage") == "never" else body | {"usage": self.usage()}

    def usage(self) -> dict[str, Any]:
        """Return the usage of what was sent so far."""
        return self.generation.usage()

    def skeleton(self, kind: str) -> dict[str, Any]:
        """Return the fields that all chunks and whole answers have."""
        generation = self.generation
        skeleton = {
            "id": generation.generation_id,
            "object": kind,
            "created": int(generation.created),
            "model": generation.model,
        }
        if generation.connection == "openrouter" and "no-provider" not in self.words:
            skeleton["provider"] = _PROVIDER
        return skeleton

    def _deltas(self) -> Iterator[dict[str, Any]]:
        if {"reasoning", "only-reasoning"} & self.words.keys():
            self.generation.completion_tokens += 4
            self.generation.reasoning_tokens += 4
            yield {"role": "assistant", "content": "", "reasoning": "let me think"}
        if self._call:
            self.generation.completion_tokens += 12
            yield {"role": "assistant", "content": None, "tool_calls": [self._call]}
            return
        if "only-reasoning" in self.words:
            return
        if "image" in self.words:
            picture = {"type": "image_url", "image_url": {"url": _PICTURE}}
            yield {"role": "assistant", "content": "", "images": [picture]}
        for word in self._text:
            self.generation.completion_tokens += len(word.split())
            yield {"role": "assistant", "content": word}

    def _ending(self) -> Iterator[dict[str, Any]]:
        if "error-before-usage" in self.words:
            yield self._error()
            return
        shape = self.words.get("usage")
        finish = self._chunk({"role": "assistant", "content": ""}, self.finish_reason)
        if shape in ("repeat", "with-finish"):
            yield finish | {"usage": self.generation.usage()}
        elif shape == "grow":
            yield finish | {"usage": self._half_usage()}
        else:
            yield finish
        if shape not in ("never", "with-finish"):
            yield self._usage_chunk(shape)
        if "error-after-usage" in self.words:
            yield self._error()

    def _usage_chunk(self, shape: str | None) -> dict[str, Any]:
        usage = self.generation.usage()
        if shape == "finish-twice":
            end = self._chunk({"role": "assistant", "content": ""}, self.finish_reason)
            return end | {"service_tier": "default", "usage": usage}
        if shape == "bare":
            return self.skeleton("chat.completion.chunk") | {"usage": usage}
        if shape == "delta":
            return self._chunk({"role": "assistant", "content": ""}) | {"usage": usage}
        return self.skeleton("chat.completion.chunk") | {"choices": [], "usage": usage}

    def _half_usage(self) -> dict[str, Any]:
        """Return an interim usage, as some providers send one."""
        usage = self.generation.usage()
        total = usage["prompt_tokens"] + 1
        return usage | {"completion_tokens": 1, "total_tokens": total, "cost": usage["cost"] / 2}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return self.skeleton("chat.completion.chunk") | {"choices": [choice]}

    def _error(self) -> dict[str, Any]:
        self.generation.status = "error"
        error = {"code": 502, "message": "Provider returned error", "metadata": {}}
        return self._chunk({"content": ""}, "error") | {"error": error}
