"""Open WebUI's own page in Chromium, as one person uses it."""

import re
from typing import TYPE_CHECKING, Any

from demo.plays.open_webui_admin import Person

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_WITHIN_MILLISECONDS = 30_000


def sign_in(browser: "Browser", url: str, person: Person, **context: Any) -> "Page":
    """Open a page of this person's own, as in a browser of their own."""
    page = browser.new_page(**context)
    page.set_default_timeout(_WITHIN_MILLISECONDS)
    page.goto(f"{url}/auth")
    page.locator("input[type=email]").fill(person.email)
    page.locator("input[type=password]").first.fill(person.password)
    page.locator("button[type=submit]").click()
    page.wait_for_url(re.compile(r"/$"))
    return page


def send(page: "Page", prompt: str) -> None:
    """Ask, and wait for the end of the mock's answer."""
    page.locator("#chat-input").click()
    page.keyboard.type(prompt)
    page.keyboard.press("Enter")
    page.get_by_text("word5").last.wait_for()
