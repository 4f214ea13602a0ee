"""One person's traffic, sent as the web page, API programs and integrations send it."""

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

from demo.plays.open_webui_admin import Person, open_client

MODEL = "openai/gpt-5-mini"
OTHER_MODEL = "anthropic/claude-haiku-4.5"
TOOL_ID = "mock_tools"
_ANSWER = "word0 word1 word2 word3 word4 word5"
_PAGE = {
    "stream": True,
    "params": {},
    "features": {},
    "variables": {},
    "session_id": "page-of-a-test",
}
_TASKS = {"title_generation": True, "tags_generation": True, "follow_up_generation": True}
CALLERS_TOOL = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}


@dataclass
class Chat:
    """A chat as its page knows it: the last question and the answers to it."""

    chat_id: str
    models: list[str]
    question_id: str
    answer_ids: list[str]
    messages: list[dict[str, Any]] = field(default_factory=list)


class Visitor:
    """Somebody signed in. What is asked here goes on in the host: wait before looking."""

    def __init__(self, url: str, person: Person) -> None:
        self.person = person
        self._client = open_client(url, person.token)

    def close(self) -> None:
        """Sign off."""
        self._client.close()

    def ask(
        self,
        prompt: str,
        *models: str,
        chat: Chat | None = None,
        question_id: str | None = None,
        **more: Any,
    ) -> Chat:
        """Ask in a saved chat, a new one unless `chat` is given; side by side for two models.

        `question_id` asks an existing question again, as Regenerate does.
        """
        chosen = list(models) or [MODEL]
        before = chat.messages if chat else []
        parent_id = chat.answer_ids[0] if chat else None
        question = {"role": "user", "content": prompt}
        question_id, parent_id = (question_id, None) if question_id else (_new_id(), parent_id)
        answer_ids = [_new_id() for _ in chosen]
        answer = self._post(
            {
                **_PAGE,
                "model": chosen[0],
                "messages": [*before, question],
                "parent_id": parent_id,
                "message_ids": _numbered(chosen, answer_ids),
                "user_message": {
                    **question,
                    "id": question_id,
                    "parentId": parent_id,
                    "childrenIds": answer_ids,
                    "timestamp": int(time.time()),
                    "models": chosen,
                },
                "background_tasks": {"follow_up_generation": True} if chat else dict(_TASKS),
                **({"chat_id": chat.chat_id} if chat else {}),
                **more,
            }
        )
        messages = [*before, question, {"role": "assistant", "content": _ANSWER}]
        return Chat(answer["chat_id"], chosen, question_id, answer_ids, messages)

    def regenerate(self, chat: Chat) -> Chat:
        """Ask the last question of a chat again: a new answer beside the old one."""
        earlier = Chat(
            chat.chat_id, chat.models, chat.question_id, chat.answer_ids, chat.messages[:-2]
        )
        prompt = chat.messages[-2]["content"]
        return self.ask(prompt, *chat.models, chat=earlier, question_id=chat.question_id)

    def continue_answer(self, chat: Chat, **more: Any) -> None:
        """Let the last answer be continued: the same message goes on."""
        self._post(
            {
                "stream": True,
                "model": chat.models[0],
                "messages": chat.messages,
                "params": {},
                "session_id": "page-of-a-test",
                "chat_id": chat.chat_id,
                "message_ids": [
                    {"model_id": chat.models[0], "message_id": chat.answer_ids[0], "modelIdx": 0}
                ],
                "assistant_message_id": chat.answer_ids[0],
                "user_message": {
                    "id": chat.question_id,
                    "role": "user",
                    "content": chat.messages[-2]["content"],
                    "timestamp": int(time.time()),
                },
                "background_tasks": {"follow_up_generation": True},
                **more,
            }
        )

    def ask_temporarily(self, prompt: str) -> None:
        """Ask in a temporary chat: nothing of it is saved."""
        self.ask(
            prompt,
            chat_id=f"temporary:socket-of-{self.person.user_id}",
            background_tasks={"follow_up_generation": True},
        )

    def stop(self, chat: Chat) -> None:
        """Press Stop."""
        _ok(self._client.post(f"/api/tasks/chat/{chat.chat_id}/stop"))

    def delete(self, chat: Chat) -> None:
        """Delete a chat."""
        _ok(self._client.delete(f"/api/v1/chats/{chat.chat_id}"))

    def answer_of(self, chat: Chat) -> dict[str, Any]:
        """Return the saved answer of a chat."""
        saved = _ok(self._client.get(f"/api/v1/chats/{chat.chat_id}")).json()
        answer: dict[str, Any] = saved["chat"]["history"]["messages"][chat.answer_ids[0]]
        return answer

    def call(
        self,
        prompt: str,
        *,
        stream: bool,
        path: str = "/api/chat/completions",
        model: str = MODEL,
        **more: Any,
    ) -> httpx.Response:
        """Call the API as a program does, and read the whole answer, whatever it is."""
        messages = [{"role": "user", "content": prompt}]
        body = {"model": model, "messages": messages, "stream": stream, **more}
        return self._client.post(path, json=body)

    def hang_up(self, prompt: str, path: str = "/api/chat/completions") -> None:
        """Call the API and go away after the first words."""
        messages = [{"role": "user", "content": prompt}]
        body = {"model": MODEL, "messages": messages, "stream": True, "max_tokens": 100}
        with self._client.stream("POST", path, json=body) as answer:
            for line in answer.iter_lines():
                if "word1" in line:
                    return

    def ask_messages_api(self, prompt: str, *, stream: bool) -> None:
        """Ask through the door for Anthropic's API."""
        _ok(self.call(prompt, stream=stream, path="/api/v1/messages", max_tokens=100))

    def run_task(self, name: str, **body: Any) -> None:
        """Ask for a background task as the page does."""
        messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
        request = {"model": MODEL, "messages": messages, "stream": False, **body}
        _ok(self._client.post(f"/api/v1/tasks/{name}/completions", json=request))

    def run_automation(self, prompt: str) -> None:
        """Create an automation that is due tomorrow, and run it now."""
        data = {"prompt": prompt, "model_id": MODEL, "rrule": "RRULE:FREQ=DAILY;BYHOUR=4"}
        created = self.post("/api/v1/automations/create", {"name": "daily", "data": data})
        automation_id = _ok(created).json()["id"]
        _ok(self.post(f"/api/v1/automations/{automation_id}/run", {}))

    def set_own_valves(self, function_id: str, valves: dict[str, Any]) -> None:
        """Set what a Function lets every user choose for themselves."""
        _ok(self.post(f"/api/v1/functions/id/{function_id}/valves/user/update", valves))

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Post anything anywhere; the answer may be an error."""
        return self._client.post(path, json=body)

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = _ok(self._client.post("/api/chat/completions", json=body)).json()
        return answer


def _new_id() -> str:
    return str(uuid.uuid4())


def _ok(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise AssertionError(f"{answer.request.url.path}: {answer.status_code} {answer.text[:300]}")
    return answer


def _numbered(models: list[str], answer_ids: list[str]) -> list[dict[str, object]]:
    return [
        {"model_id": model, "message_id": answer_id, "modelIdx": index}
        for index, (model, answer_id) in enumerate(zip(models, answer_ids, strict=True))
    ]
