"""The main path through the web page, in headless Chromium."""

import re
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from shared.core.money import format_usd
from tests.e2e.chat_page import send, sign_in
from tests.e2e.coverage import Line
from tests.e2e.fates import Fate, is_chat
from tests.e2e.stage import FUNCTION_ID, Play, Stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e


def test_it_books_what_a_person_asks_on_the_page(
    stage: Stage, browser: "Browser", lines: list[Line]
) -> None:
    stage.install(function=True, pipeline=True)
    play = Play(stage, stage.visitor())
    page = _page_of(play, browser)
    send(page, "hello from the page")
    play.wait(4)  # the answer, its title, follow-ups and tags
    send(page, "and once more")
    play.wait(6)
    account = stage.account_once(play.user_id, lambda account: len(account.fates) == 6)
    lines.append(Line("both", "the web page: two turns in Chromium", account))
    assert not account.wrong
    assert account.count(Fate.BOOKED) == 2
    assert account.count(Fate.UNMETERED) == 4
    assert account.difference_usd == 0


def test_it_shows_what_an_answer_cost_to_whoever_asks_for_it_and_to_nobody_else(
    stage: Stage, browser: "Browser"
) -> None:
    stage.install(function=True, pipeline=True)
    curious, other = Play(stage, stage.visitor()), Play(stage, stage.visitor())
    pages = [_page_of(play, browser) for play in (curious, other)]

    for play, page in zip((curious, other), pages, strict=True):
        send(page, "hello")
        play.wait(4)
        assert _amounts_on(page) == []  # off for everybody until they say otherwise

    curious.visitor.set_own_valves(FUNCTION_ID, {"show_cost": True})
    for play, page in zip((curious, other), pages, strict=True):
        send(page, "and more")
        play.wait(6)
    rows = stage.rows_of(curious.user_id)
    answer = [row for row in rows if is_chat(row)][-1]
    tokens = answer["prompt_tokens"] + answer["completion_tokens"]
    line = f"{format_usd(Decimal(answer['cost']))} USD, {tokens} tokens"
    pages[0].get_by_text(line).wait_for()
    for page in pages:
        page.reload()
        page.get_by_text("word5").last.wait_for()
    pages[0].get_by_text(line).wait_for()  # it is kept with the answer
    assert _amounts_on(pages[0]) == [line]
    assert _amounts_on(pages[1]) == []


def _amounts_on(page: "Page") -> list[str]:
    return page.get_by_text(re.compile(r"\d USD|cost not known")).all_inner_texts()


def _page_of(play: Play, browser: "Browser") -> "Page":
    return sign_in(browser, play.stage.installation.open_webui.url, play.visitor.person)
