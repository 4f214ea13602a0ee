"""The action for users, loaded as Open WebUI does: whose figures, in what form, and why not."""

import asyncio
import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from shared.core.version import read_version
from tests.host.plugin import ROOT, load_as_function
from tests.support.builders import ALICE, BOB

ACTION = ROOT / "pipelines" / "openrouter_usage_action.py"
MONTHS = "/api/v1/user/months"
TOKEN = "user-token-0123456789"
MONTH: dict[str, Any] = {
    "start": "2026-11-01",
    "end": "2026-11-24",
    "events": 3,
    "pending": 1,
    "unmetered": 2,
    "total_tokens": 1234567,
    "cost_usd": "12.345678901234",
    "models": [
        {"model": "openai/gpt-5-mini", "events": 3, "total_tokens": 99, "cost_usd": "12.3"},
    ],
}
NOTHING = MONTH | {
    "start": "2026-10-01",
    "end": "2026-10-31",
    "events": 0,
    "pending": 0,
    "unmetered": 0,
    "models": [],
}
USAGE: dict[str, Any] = {
    "time_zone": "Europe/Warsaw",
    "as_of": "2026-11-24T13:00:00+01:00",
    "cost": "raw",
    "months": [MONTH, NOTHING],
}


@pytest.fixture
def module() -> ModuleType:
    return load_as_function(ACTION.read_text(encoding="ascii"))


@pytest.fixture
def page(module: ModuleType, httpserver: HTTPServer) -> Iterator["Page"]:
    yield Page(module, sidecar_url=httpserver.url_for("/"), user_token=TOKEN)
    httpserver.check_assertions()


class Page:
    """What the page of a user gets: dialogs, notifications, and the answer of the request."""

    def __init__(self, module: ModuleType, **valves: Any) -> None:
        self.action = module.Action()
        self.action.valves = self.action.Valves(**valves)
        self.dialogs: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []

    async def _call(self, event: dict[str, Any]) -> bool:
        assert event["type"] == "confirmation"
        self.dialogs.append(event["data"])
        return True

    async def _emit(self, event: dict[str, Any]) -> None:
        assert event["type"] == "notification"
        self.notices.append(event["data"])

    async def press(self, body: dict[str, Any] | None = None, **changed: Any) -> Any:
        host = {
            "__user__": {"id": ALICE, "name": "Alice"},
            "__event_emitter__": self._emit,
            "__event_call__": self._call,
        }
        return await self.action.action(body=body or {"messages": []}, **(host | changed))

    async def sentence(self, **changed: Any) -> str:
        """Press the button and return why nothing is shown."""
        answer = await self.press(**changed)
        assert self.dialogs == []
        assert answer == {"error": self.notices[-1]["content"]}
        return str(answer["error"])


def answers(httpserver: HTTPServer, body: Any = USAGE, status: int = 200) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    httpserver.expect_request(MONTHS).respond_with_data(text, status=status)


def test_it_loads_without_any_package_and_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    text = ACTION.read_text(encoding="ascii")
    module = load_as_function(text)
    assert not hasattr(module, "Filter")
    assert callable(module.Action().action)
    frontmatter = text.split('"""')[1]
    assert "requirements" not in frontmatter
    assert f"\nversion: {read_version()}\n" in frontmatter
    assert not re.search("from (utils|apps|main|config)", text)
    for name, valve in module.Action.Valves.model_json_schema()["properties"].items():
        assert valve["title"], name
        assert valve["description"], name


async def test_it_asks_for_the_user_of_the_session_not_for_one_the_body_names(
    page: Page, httpserver: HTTPServer
) -> None:
    httpserver.expect_oneshot_request(
        MONTHS,
        query_string={"external_user": ALICE},
        headers={"Authorization": f"Bearer {TOKEN}"},
    ).respond_with_json(USAGE)
    forged = {"user_id": BOB, "external_user": BOB, "user": {"id": BOB}, "__user__": {"id": BOB}}
    assert await page.press(forged) == USAGE | {"as_of": "2026-11-24T13:00:00+01:00"}
    assert len(page.dialogs) == 1


async def test_the_dialog_has_every_figure_to_the_last_digit_and_says_what_is_not_in_it(
    page: Page, httpserver: HTTPServer
) -> None:
    answers(httpserver)
    await page.press()
    [dialog] = page.dialogs
    text = re.sub(r"<[^>]+>", " ", dialog["message"])
    text = re.sub(r"\s+", " ", text)
    assert "November 2026 12.345678901234 USD, 3 requests, 1,234,567 tokens" in text
    assert "1 request whose cost is not known yet and 2 requests whose cost cannot be" in text
    assert "openai/gpt-5-mini 3 99 12.3" in text
    assert "Nothing is booked for you in October 2026." in text
    assert "As of 24 November 2026, 13:00, Europe/Warsaw. Cost is what OpenRouter charged" in text
    assert TOKEN not in dialog["message"]


async def test_it_says_when_the_cost_is_what_the_organization_pays(
    page: Page, httpserver: HTTPServer
) -> None:
    answers(httpserver, USAGE | {"cost": "billed", "as_of": None})
    await page.press()
    assert "Cost is what your organization pays" in page.dialogs[0]["message"]
    assert "As of" not in page.dialogs[0]["message"]


async def test_names_of_models_are_text_and_cannot_end_the_line(
    page: Page, httpserver: HTTPServer
) -> None:
    name = "<img src=x onerror=alert(1)>\n\n![x](https://evil.example/)\u2028&\"'"
    model = MONTH["models"][0] | {"model": name}
    answers(httpserver, USAGE | {"months": [MONTH | {"models": [model]}]})
    await page.press()
    message = page.dialogs[0]["message"]
    assert "&lt;img src=x onerror=alert(1)&gt; ![x](https://evil.example/) &amp;" in message
    assert "<img" not in message
    assert len(message.splitlines()) == 1
    assert "<script" not in message


async def test_the_page_that_regenerates_an_answer_gets_nothing(page: Page) -> None:
    assert await page.press({"event": {"id": "regenerate-response"}}) is None
    assert (page.dialogs, page.notices) == ([], [])


async def test_a_program_without_a_page_gets_the_figures_alone(
    page: Page, httpserver: HTTPServer
) -> None:
    answers(httpserver)
    found = await page.press(__event_call__=None, __event_emitter__=None)
    assert found["months"][0]["cost_usd"] == "12.345678901234"


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ("{}", 401, "does not let Open WebUI in. Please tell your administrator."),
        ("{}", 403, "does not let Open WebUI in. Please tell your administrator."),
        ("{}", 429, "does not let Open WebUI in. Please tell your administrator."),
        (USAGE, 500, "has no answer right now. Please try again later."),
        (USAGE, 302, "has no answer right now. Please try again later."),
        ("<html>", 200, "has no answer right now. Please try again later."),
        ({"months": []}, 200, "has no answer right now. Please try again later."),
        (
            USAGE | {"months": [MONTH | {"cost_usd": "<b>1</b>"}]},
            200,
            "has no answer right now. Please try again later.",
        ),
        ("x" * 2_000_001, 200, "does not answer. Please try again later."),
    ],
    ids=["401", "403", "429", "500", "302", "no json", "no usage", "no amount", "too large"],
)
async def test_a_sidecar_without_figures_is_reported_in_a_sentence(
    page: Page,
    httpserver: HTTPServer,
    caplog: pytest.LogCaptureFixture,
    body: Any,
    status: int,
    sentence: str,
) -> None:
    answers(httpserver, body, status)
    assert await page.sentence() == f"The usage ledger {sentence}"
    assert page.notices[0]["type"] == "warning"
    [logged] = [record.getMessage() for record in caplog.records if record.name == "owui_usage"]
    assert logged.startswith("my usage is not shown: ")
    assert TOKEN not in caplog.text
    assert ALICE not in logged


async def test_the_token_is_not_carried_to_where_an_answer_points(
    page: Page, httpserver: HTTPServer
) -> None:
    headers = {"Location": httpserver.url_for("/elsewhere")}
    httpserver.expect_request(MONTHS).respond_with_data("", status=307, headers=headers)
    await page.sentence()
    assert [request.path for request, _ in httpserver.log] == [MONTHS]


async def test_a_sidecar_that_is_away_or_slow_is_not_waited_for(
    module: ModuleType, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = Page(module, sidecar_url=f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("USAGE_USER_TOKEN", TOKEN)
        assert "does not answer" in await away.sentence()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    go_on = socket.socketpair()

    def slow(_request: Request) -> Response:
        loop.call_soon_threadsafe(asked.set)
        go_on[1].recv(1)
        return Response(json.dumps(USAGE))

    httpserver.expect_request(MONTHS).respond_with_handler(slow)
    page = Page(module, sidecar_url=httpserver.url_for("/"), timeout_seconds=0.5)
    assert "does not answer" in await page.sentence()
    assert asked.is_set()
    go_on[0].send(b"x")
    for end in go_on:
        end.close()


async def test_a_wrong_address_or_no_user_is_no_error_of_the_chat(
    module: ModuleType, page: Page, httpserver: HTTPServer
) -> None:
    for url in ("not an address", "ftp://x", "http://[", "http://x:99999"):
        assert await Page(module, sidecar_url=url, user_token=TOKEN).sentence()
    assert await Page(module, user_token="\u0142").sentence()
    assert "cannot be shown" in await page.sentence(__user__=None)
    assert "cannot be shown" in await page.sentence(__user__={})
    assert httpserver.log == []


async def test_the_token_is_the_valve_else_the_file_else_the_environment(
    module: ModuleType, httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(httpserver)
    monkeypatch.setenv("USAGE_SIDECAR_URL", httpserver.url_for("/"))
    assert "its token is not set" in await Page(module).sentence()
    monkeypatch.setenv("USAGE_USER_TOKEN", "of-the-environment")
    await Page(module).press()
    file = tmp_path / "token"
    file.write_text("of-the-file\n")
    monkeypatch.setenv("USAGE_USER_TOKEN_FILE", str(file))
    await Page(module).press()
    await Page(module, user_token="of-the-valve").press()
    assert [request.headers["Authorization"] for request, _ in httpserver.log] == [
        "Bearer of-the-environment",
        "Bearer of-the-file",
        "Bearer of-the-valve",
    ]
    file.unlink()
    assert "its token is not set" in await Page(module).sentence()


async def test_proxies_of_the_host_get_no_token(
    page: Page, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(httpserver)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert (await page.press())["months"]


async def test_a_dialog_that_is_left_open_is_closed(
    module: ModuleType, page: Page, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(httpserver)
    monkeypatch.setattr(module, "_DIALOG_SECONDS", 0.01)
    closed = asyncio.Event()

    async def left_open(_event: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()

    assert (await page.press(__event_call__=left_open))["months"]
    assert closed.is_set()
    assert page.notices == []
