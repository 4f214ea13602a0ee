"""A user's own month in the real Open WebUI: the button, its dialog, and whose figures it shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from demo.installation import ACTION
from demo.plays.open_webui_admin import open_client
from tests.e2e.chat_page import sign_in
from tests.e2e.sidecar import RunningLedger, running_ledger
from tests.e2e.stage import Play, Stage
from tests.e2e.visitor import MODEL, OTHER_MODEL, Chat
from tests.support.sidecars import USER_TOKEN

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.e2e

ACTION_ID = "my_usage"
_PHONE = {"width": 390, "height": 844}
_AWAY = "The usage ledger does not answer."
_SHUT_OUT = "The usage ledger does not let Open WebUI in."


@dataclass
class Person:
    """Somebody who has chatted, with the chat that the button stands in."""

    play: Play
    chat: Chat

    @property
    def user_id(self) -> str:
        return self.play.user_id

    def press(self, **body: Any) -> Any:
        """Press the button as a program does, without a page."""
        request = {
            "model": MODEL,
            "messages": [],
            "chat_id": self.chat.chat_id,
            "id": self.chat.answer_ids[0],
            "session_id": "of-no-page",
        }
        return self.play.visitor.post(f"/api/chat/actions/{ACTION_ID}", request | body)

    def page(self, browser: "Browser", **context: Any) -> "Page":
        """Open the chat on a page."""
        url = self.play.stage.installation.open_webui.url
        page = sign_in(browser, url, self.play.visitor.person, **context)
        page.goto(f"{url}/c/{self.chat.chat_id}")
        page.get_by_text("word5").last.wait_for()
        return page

    def saved_chat(self) -> Any:
        """Return what Open WebUI keeps of the chat, its messages and what is attached to them."""
        url, person = self.play.stage.installation.open_webui.url, self.play.visitor.person
        with open_client(url, person.token) as client:
            return client.get(f"/api/v1/chats/{self.chat.chat_id}").json()["chat"]


@pytest.fixture(scope="module")
def ledger(stage: Stage) -> Iterator[RunningLedger]:
    """Run a sidecar on the books of the stage."""
    with running_ledger(stage.installation.folder) as found:
        yield found


@pytest.fixture(scope="module")
def shared_model(stage: Stage) -> Iterator[None]:
    """Give the model to everybody: for users the host runs actions on such models alone."""
    stage.admin.share_model(MODEL, "Mini")
    yield
    stage.admin.unshare_model(MODEL)


@pytest.fixture(scope="module")
def people(stage: Stage, ledger: RunningLedger, shared_model: None) -> tuple[Person, Person]:
    """Let Alice ask two models and Bob one, and wait until all of it is in the summaries."""
    stage.install(function=True, pipeline=True)
    alice, bob = Play(stage, stage.visitor()), Play(stage, stage.visitor())
    chats = alice.visitor.ask("hello"), bob.visitor.ask("hello, this is a longer question")
    alice.wait(4)
    bob.wait(4)
    alice.visitor.ask("and you?", OTHER_MODEL)
    alice.wait(8)
    for play, answers in ((alice, 2), (bob, 1)):
        stage.account_once(play.user_id, lambda account: len(account.fates) >= 4)
        ledger.wait_for_events(play.user_id, answers)
    return Person(alice, chats[0]), Person(bob, chats[1])


@pytest.fixture
def offered(stage: Stage, ledger: RunningLedger) -> Iterator[None]:
    """Let the admin create the Function and switch it on for everybody."""
    valves = {"sidecar_url": ledger.url, "user_token": USER_TOKEN}
    stage.admin.create_function(ACTION_ID, ACTION, valves)
    stage.admin.load_models()
    yield
    stage.admin.delete_function(ACTION_ID)
    stage.admin.load_models()


def test_nothing_of_it_is_there_until_an_admin_switches_it_on(
    stage: Stage, people: tuple[Person, Person], browser: "Browser"
) -> None:
    alice, _ = people

    def is_offered() -> bool:
        stage.admin.load_models()
        return bool(alice.press().status_code == 200)

    assert not is_offered()
    body = {"id": ACTION_ID, "name": "My usage", "content": ACTION.read_text(), "meta": {}}
    created = stage.admin.post("/api/v1/functions/create", body | {"meta": {"description": "-"}})
    assert (created["type"], created["is_active"], created["is_global"]) == ("action", False, False)
    assert not is_offered()
    assert alice.page(browser).get_by_role("button", name="My usage").count() == 0
    stage.admin.toggle_function(ACTION_ID)
    assert not is_offered()
    stage.admin.post(f"/api/v1/functions/id/{ACTION_ID}/toggle/global", {})
    assert is_offered()
    stage.admin.delete_function(ACTION_ID)
    assert not is_offered()


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_click_shows_ones_own_month_and_leaves_nothing_in_the_chat(
    people: tuple[Person, Person], ledger: RunningLedger, browser: "Browser", size: str
) -> None:
    alice, bob = people
    before = alice.saved_chat()
    context: dict[str, Any] = {"color_scheme": "dark"}
    if size == "phone":
        context = {"viewport": _PHONE, "has_touch": True}
    page = alice.page(browser, **context)
    dialog = open_dialog(page)
    shown = dialog.inner_text()
    month = ledger.month(alice.user_id)
    assert f"{month['cost_usd']} USD, 2 requests, {month['total_tokens']} tokens" in shown
    for each in month["models"]:
        row = dialog.get_by_role("row").filter(has_text=each["model"])
        assert row.inner_text().split() == [
            each["model"],
            f"{each['events']:,}",
            f"{each['total_tokens']:,}",
            each["cost_usd"],
        ]
    assert ledger.month(bob.user_id)["cost_usd"] not in shown
    assert dialog.bounding_box()["height"] <= page.viewport_size["height"]  # type: ignore[index]
    dialog.get_by_role("button", name="Confirm").click()
    dialog.wait_for(state="hidden")
    assert alice.saved_chat() == before


@pytest.mark.usefixtures("offered")
def test_it_is_always_the_user_who_is_signed_in(
    people: tuple[Person, Person], ledger: RunningLedger
) -> None:
    alice, bob = people
    for user in (alice, bob):
        [this, _] = user.press().json()["months"]
        assert this["cost_usd"] == ledger.admins_cost(user.user_id)
    assert ledger.admins_cost(alice.user_id) != ledger.admins_cost(bob.user_id)
    forged = {
        "user_id": bob.user_id,
        "external_user": bob.user_id,
        "user": {"id": bob.user_id},
        "__user__": {"id": bob.user_id},
    }
    [this, _] = alice.press(**forged).json()["months"]
    assert this["cost_usd"] == ledger.admins_cost(alice.user_id)
    assert alice.press(chat_id=bob.chat.chat_id).status_code in (401, 403, 404)


@pytest.mark.usefixtures("offered")
def test_what_the_browser_gets_holds_no_token(
    people: tuple[Person, Person], ledger: RunningLedger, browser: "Browser"
) -> None:
    alice, _ = people
    page = alice.page(browser)
    received: list[str] = []

    def note(frame: str | bytes) -> None:
        received.append(str(frame))

    page.on("websocket", lambda socket: socket.on("framereceived", note))
    page.on("response", lambda answer: note(str(answer.headers)))
    page.reload()
    page.get_by_text("word5").last.wait_for()
    html = open_dialog(page).inner_html()
    said = alice.press()
    assert any("confirmation" in text for text in received)
    for text in (html, said.text, str(said.headers), *received):
        assert USER_TOKEN not in text
        assert ledger.url not in text


@pytest.mark.usefixtures("offered")
def test_regenerating_an_answer_opens_nothing(people: tuple[Person, Person]) -> None:
    alice, _ = people
    event = {"id": "regenerate-response", "data": {"messageId": alice.chat.answer_ids[0]}}
    answer = alice.press(event=event)
    assert (answer.status_code, answer.json()) == (200, None)


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("valves", "sentence"),
    [
        ({"sidecar_url": "http://127.0.0.1:9"}, _AWAY),
        ({"user_token": "wrong"}, _SHUT_OUT),
    ],
    ids=["away", "wrong token"],
)
def test_it_says_in_a_sentence_why_there_are_no_figures(
    stage: Stage,
    people: tuple[Person, Person],
    ledger: RunningLedger,
    browser: "Browser",
    valves: dict[str, str],
    sentence: str,
) -> None:
    alice, _ = people
    right = {"sidecar_url": ledger.url, "user_token": USER_TOKEN}
    stage.admin.post(f"/api/v1/functions/id/{ACTION_ID}/valves/update", right | valves)
    before = alice.saved_chat()
    page = alice.page(browser)
    page.get_by_role("button", name="My Usage").last.click()
    page.get_by_text(sentence).wait_for()
    assert page.get_by_role("dialog").count() == 0
    assert alice.saved_chat() == before


@pytest.mark.usefixtures("offered")
def test_who_has_used_nothing_before_this_answer_reads_that_nothing_is_booked(
    stage: Stage, browser: "Browser"
) -> None:
    play = Play(stage, stage.visitor())
    newcomer = Person(play, play.visitor.ask("hello"))
    play.wait(4)
    shown = open_dialog(newcomer.page(browser)).inner_text()
    assert shown.count("Nothing is booked for you in") == 2


def open_dialog(page: "Page") -> "Locator":
    """Press the button below the last answer."""
    page.get_by_role("button", name="My Usage").last.click()
    dialog = page.get_by_role("dialog").filter(has_text="My usage")
    dialog.get_by_role("region", name="My usage").wait_for()
    return dialog
