"""The main path through the web page, in headless Chromium."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import missing, needs_program
from tests.e2e.coverage import Line
from tests.e2e.fates import Fate
from tests.e2e.stage import Play, Stage

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.e2e

_CHROMIUM_SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_WITHIN_MILLISECONDS = 30_000


@pytest.fixture
def page() -> Iterator["Page"]:
    """Open an empty page in Debian's Chromium."""
    chromium = needs_program("chromium", "apt-get install --no-install-recommends chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        missing("playwright", "make .venv anew: it stands in tests/requirements.txt")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=_CHROMIUM_SWITCHES)
        page = browser.new_page()
        page.set_default_timeout(_WITHIN_MILLISECONDS)
        yield page
        browser.close()


def test_it_books_what_a_person_asks_on_the_page(
    stage: Stage, page: "Page", lines: list[Line]
) -> None:
    stage.install(function=True, pipeline=True)
    play = Play(stage, stage.visitor())
    _sign_in(play, page)
    _send(page, "hello from the page")
    play.wait(4)  # the answer, its title, follow-ups and tags
    _send(page, "and once more")
    play.wait(6)
    account = stage.account_once(play.user_id, lambda account: len(account.fates) == 6)
    lines.append(Line("both", "the web page: two turns in Chromium", account))
    assert not account.wrong
    assert account.count(Fate.BOOKED) == 2
    assert account.count(Fate.UNMETERED) == 4
    assert account.difference_usd == 0


def _sign_in(play: Play, page: "Page") -> None:
    page.goto(play.stage.installation.open_webui.url + "/auth")
    page.locator("input[type=email]").fill(play.visitor.person.email)
    page.locator("input[type=password]").first.fill(play.visitor.person.password)
    page.locator("button[type=submit]").click()
    page.wait_for_url(re.compile(r"/$"))


def _send(page: "Page", prompt: str) -> None:
    page.locator("#chat-input").click()
    page.keyboard.type(prompt)
    page.keyboard.press("Enter")
    page.get_by_text("word5").last.wait_for()
