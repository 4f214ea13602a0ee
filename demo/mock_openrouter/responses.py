"""The Responses API of the mock: the same answers in its events, the same line in the ledger."""

from collections.abc import Iterator, Mapping
from typing import Any

from demo.mock_openrouter.answers import Answer, text_of

_RENAMED = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "prompt_tokens_details": "input_tokens_details",
    "completion_tokens_details": "output_tokens_details",
}


def chat_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same request in the form of chat completions."""
    messages = [
        {"role": item.get("role", "user"), "content": text_of(item)}
        for item in body["input"]
        if item.get("type") == "message"
    ]
    return {**body, "messages": messages}


class ResponseAnswer(Answer):
    """One answer as events of the Responses API."""

    words_begin = 3

    def chunks(self) -> Iterator[dict[str, Any]]:
        yield self._event("created", "in_progress")
        item = {"type": "message", "id": "msg_tmp_1", "role": "assistant", "content": []}
        yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        part = {"type": "output_text", "text": ""}
        yield {"type": "response.content_part.added", "output_index": 0, "part": part}
        text = ""
        for delta in self._deltas():
            word = delta.get("content") or ""
            text += word
            where = {"output_index": 0, "content_index": 0}
            yield {"type": "response.output_text.delta", "delta": word, **where}
        if "error-before-usage" in self.words:
            self.generation.status = "error"
            yield self._event("failed", "failed")
            return
        yield self._ended(text)

    def whole(self) -> dict[str, Any]:
        text = str(self.message()["content"])
        self.generation.status, self.generation.finish_reason = "ok", self.finish_reason
        whole: dict[str, Any] = self._ended(text)["response"]
        return whole

    def usage(self) -> dict[str, Any]:
        """Return the usage object with the names of this API."""
        return {_RENAMED.get(name, name): value for name, value in super().usage().items()}

    def _ended(self, text: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text}]
        item = {"type": "message", "id": "msg_tmp_1", "role": "assistant", "content": content}
        event = self._event("completed", "completed")
        event["response"]["output"] = [item | {"status": "completed"}]
        if self.words.get("usage") != "never":
            event["response"]["usage"] = self.usage()
        return event

    def _event(self, kind: str, status: str) -> dict[str, Any]:
        response = self.skeleton("response") | {"status": status, "output": [], "usage": None}
        response.pop("provider", None)  # this API does not name it
        return {"type": f"response.{kind}", "response": response}
