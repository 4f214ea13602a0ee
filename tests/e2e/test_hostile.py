"""Bodies that nobody's answer stands behind: forged outlets and posts to the open port."""

import json
from typing import Any

import httpx
import pytest

from demo.installation import PLUGIN
from tests.e2e.fates import Fate
from tests.e2e.stage import Play, Stage

pytestmark = pytest.mark.e2e

_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 123.0}
_HUGE = "x" * 10_000_000


@pytest.fixture
def play(stage: Stage) -> Play:
    """Let somebody new sign in where both hosts have the plugin."""
    stage.install(function=True, pipeline=True)
    return Play(stage, stage.visitor())


def _forged(chat_id: str, message_id: str, usage: object) -> dict[str, Any]:
    answer = {"id": message_id, "role": "assistant", "content": "", "usage": usage}
    return {
        "model": "openai/gpt-5-mini",
        "chat_id": chat_id,
        "id": message_id,
        "session_id": "none",
        "messages": [{"id": "q", "role": "user", "content": "hello"}, answer],
    }


def _settled_usd(play: Play) -> set[str]:
    play.stage.books.collect()
    bills = play.stage.books.bills_of(play.user_id)
    return {str(bill.event.cost_usd) for bill in bills if bill.event.is_settled}


def test_a_replayed_outlet_changes_no_bill_of_a_saved_chat(play: Play) -> None:
    chat = play.visitor.ask("hello", background_tasks={})
    play.wait(1)
    before = _settled_usd(play)
    body = _forged(chat.chat_id, chat.answer_ids[0], _USAGE)
    answer = play.visitor.post("/api/chat/completed", body)
    assert answer.status_code == 200
    assert len(before) == 1
    assert _settled_usd(play) == before


def test_the_function_books_nothing_from_a_replayed_outlet(play: Play) -> None:
    play.stage.install(function=True, pipeline=False)
    for chat_id, message_id in (("", "msg_" + "0" * 24), ("temporary:anything", "made-up")):
        answer = play.visitor.post("/api/chat/completed", _forged(chat_id, message_id, _USAGE))
        assert answer.status_code == 200
    assert _settled_usd(play) == set()


@pytest.mark.parametrize(
    "usage",
    [
        {**_USAGE, "cost": -1.0},
        {**_USAGE, "cost": "many"},
        {**_USAGE, "cost": [1]},
        {**_USAGE, "cost": 1e300},
        {**_USAGE, "cost": {"total": 1}},
        {"cost": 0.5, "prompt_tokens": "x", "completion_tokens": -4, "total_tokens": None},
        ["cost"],
        "cost",
        None,
    ],
    ids=str,
)
def test_the_open_port_answers_and_goes_on_whatever_is_posted(play: Play, usage: object) -> None:
    body = _forged("chat", "message", usage)
    answer = _post_to_pipelines(play.stage, "outlet", {"body": body, "user": {"id": "x"}})
    assert answer.status_code == 200
    assert answer.json() == body


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"body": {}, "user": {}}),
        json.dumps({"body": {"messages": {"a": 1}, "metadata": 7, "model": ["m"]}, "user": {}}),
        json.dumps({"body": _forged("c", "m" * 100_000, _USAGE), "user": {"id": "x"}}),
        json.dumps({"body": _forged(_HUGE, "m", {_HUGE: 1, "cost": 1}), "user": {"id": _HUGE}}),
    ],
    ids=["empty", "wrong shapes", "long id", "30 MB"],
)
def test_no_body_breaks_a_hook(play: Play, text: str) -> None:
    for hook in ("inlet", "outlet"):
        assert _post_to_pipelines(play.stage, hook, text).status_code == 200
    assert play.visitor.call("still there?", stream=False).status_code == 200


def test_the_server_goes_on_after_a_number_that_json_does_not_know(play: Play) -> None:
    """The server itself cannot send NaN back: the hooks must not make it worse than that."""
    usage = '{"cost": NaN, "prompt_tokens": Infinity}'
    body = json.dumps(_forged("c", "m", None)).replace("null", usage)
    text = '{"body": ' + body + ', "user": {"id": "' + play.user_id + '"}}'
    assert _post_to_pipelines(play.stage, "outlet", text).status_code == 500
    assert play.visitor.call("still there?", stream=False).status_code == 200
    play.wait(1)
    account = play.stage.account_once(play.user_id, lambda account: True)
    assert account.count(Fate.BOOKED) == 1
    assert account.difference_usd == 0


def test_what_the_open_port_books_is_the_sum_of_what_is_valid(play: Play) -> None:
    """Nobody can tell a forger who reaches the port from Open WebUI: hence bind it privately."""
    for number, cost in enumerate((0.25, "0.5", None, -3, float(2**200))):
        body = _forged(f"chat-{number}", f"message-{number}", {**_USAGE, "cost": cost})
        user = {"id": play.user_id}
        _post_to_pipelines(play.stage, "outlet", {"body": body, "user": user}).raise_for_status()
    play.stage.books.collect()
    bills = play.stage.books.bills_of(play.user_id)
    settled = [bill.event.cost_usd for bill in bills if bill.event.is_settled]
    assert sorted(str(cost.normalize()) for cost in settled if cost) == ["0.25", "0.5"]
    assert len(bills) - len(settled) == 3  # unusable costs are pending, not 0 and not lost


def _post_to_pipelines(stage: Stage, hook: str, body: object) -> httpx.Response:
    url = f"{stage.installation.pipelines.url}/{PLUGIN.stem}/filter/{hook}"
    text = body if isinstance(body, str) else json.dumps(body)
    headers = {"Content-Type": "application/json"}
    return httpx.post(url, content=text, headers=headers, timeout=60, trust_env=False)
