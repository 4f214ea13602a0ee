"""The pages in headless Chromium: what an admin and a bookkeeper do, on a desktop and a phone."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.core.event import UsageEvent
from shared.core.rows import UserRow
from tests.conftest import CACHE, missing
from tests.support.builders import (
    ALICE,
    BOB,
    CHARLIE,
    NOON,
    generation_id,
    pending,
    settled,
    unmetered,
)
from tests.support.pages import add_client, sidecar_on
from tests.support.sidecars import ADMIN, TOKEN, SidecarAtHand

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e

_WITHIN_MILLISECONDS = 30_000
_PHONE = {"width": 390, "height": 844}
_DESKTOP = {"width": 1280, "height": 900}
# A4 within its margins.
_PAPER: Any = {"width": 680, "height": 1000}
_AXE = CACHE / "vendor" / "axe.min.js"
_PAGES = (
    "/",
    "/ui/usage",
    "/ui/events",
    "/ui/unmetered",
    "/ui/findings",
    "/ui/statements",
    "/ui/statement?organization_id=acme&month=2026-11",
    "/ui/organizations",
    "/ui/organization?organization_id=acme",
    "/ui/assignments",
    "/ui/assignment?assignment_id=1",
    "/ui/exchange-rates",
    "/ui/hosts",
    "/ui/runs",
    "/ui/corrections",
    "/ui/dead-letters",
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarAtHand]:
    """Return a sidecar with six weeks of usage of two clients and somebody nobody assigned."""
    found = SidecarAtHand(tmp_path_factory.mktemp("desk"))
    set_up(found)
    yield found
    found.close()


def set_up(found: SidecarAtHand) -> None:
    """Book the usage of Alice, Bob and Charlie; Bob's client pays in another currency."""
    add_client(found, "acme", ALICE, currency="USD")
    add_client(found, "globex", BOB, currency="PLN")
    people = zip((ALICE, BOB, CHARLIE), ("Alice", "Bob", "Charlie"), strict=True)
    names = [UserRow(user_id=user, occurred_at=NOON, name=name) for user, name in people]
    rate = {"currency": "PLN", "local_date": "2026-10-01", "rate": "4.0215", "source": "NBP"}
    found.client.put(f"{ADMIN}/exchange-rates", json=rate).raise_for_status()
    found.book([*weeks(), *names, pending(request_id=generation_id(9)), unmetered()])


def weeks() -> Iterator[UsageEvent]:
    """Return an answer or two a day of everybody."""
    models = ("openai/gpt-5-mini", "anthropic/claude-sonnet", "google/gemini-flash")
    for back in range(44):
        at = NOON - timedelta(days=back)
        for number, user in enumerate((ALICE, BOB, CHARLIE)):
            yield settled(
                request_id=generation_id(10 * back + number, int(at.timestamp())),
                occurred_at=at,
                external_user=user,
                model=models[(back + number) % 3],
                cost_usd=f"0.{(back * 7 + number * 13) % 90 + 10}000{number}",
                is_byok=user == BOB,
                upstream_cost_usd="1.000000000001" if user == BOB else None,
                chat_id=f"chat-{user}-{back}",
                message_id=f"m-{back}-{number}",
            )


@pytest.fixture(params=["desktop", "phone"])
def page(
    request: pytest.FixtureRequest, browser: "Browser", desk: SidecarAtHand
) -> Iterator["Page"]:
    """Return a page of somebody who has signed in; what the console complains about fails."""
    size: Any = _PHONE if request.param == "phone" else _DESKTOP
    context = browser.new_context(viewport=size, base_url=desk.url, accept_downloads=True)
    yield from _signed_in(context.new_page())
    context.close()


def _signed_in(page: "Page") -> Iterator["Page"]:
    complaints: list[str] = []
    page.on("console", lambda said: complaints.extend([said.text] * (said.type == "error")))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(_WITHIN_MILLISECONDS)
    page.goto("/ui/usage?by=model")
    page.get_by_label("Admin token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r"/ui/usage\?by=model$"))
    yield page
    assert complaints == []


def test_it_leads_down_to_the_event_and_back(page: "Page") -> None:
    page.goto("/")
    page.locator("#by-organization_id").get_by_role("link", name="Acme").click()
    page.locator("#usage").get_by_role("link", name="Alice").click()
    page.wait_for_url(re.compile("external_user=alice-id"))
    page.locator("#usage").get_by_role("link", name="openai/gpt-5-mini").click()
    page.wait_for_url(re.compile("model=openai"))
    page.locator("#usage tbody a").last.click()
    page.locator("#events tbody code", has_text="gen-").first.wait_for()
    page.go_back()
    page.locator("#usage tbody a", has_text="2026-11").first.wait_for()
    page.reload()
    page.locator("#usage tbody a", has_text="2026-11").first.wait_for()
    assert "model=openai" in page.url


def test_days_are_chosen_and_what_is_shown_is_downloaded(page: "Page") -> None:
    page.goto("/ui/usage?by=external_user")
    page.get_by_label("First day").fill("2026-11-20")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile("start=2026-11-20"))
    page.locator("#usage caption", has_text="2026-11-20 to").wait_for()
    shown = page.locator("#total-billed data").get_attribute("value")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download CSV").click()
    text = Path(waiting.value.path()).read_text()
    assert text.startswith("external_user,user_name,events")
    assert len(text.splitlines()) == 1 + page.locator("#usage tbody tr").count()
    assert shown


def test_the_chart_is_drawn_under_the_strict_policy(page: "Page") -> None:
    page.goto("/")
    page.locator(".chart canvas").wait_for()
    assert page.locator(".chart canvas").bounding_box() is not None


def test_nothing_is_wider_than_the_window(page: "Page") -> None:
    for path in _PAGES:
        page.goto(path)
        is_wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert page.evaluate(is_wider) is False, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(browser: "Browser", desk: SidecarAtHand, scheme: Any) -> None:
    if not _AXE.exists():
        missing("axe-core", "run `python -m scheduler.dashboard.vendor`")
    # A policy as strict as ours keeps axe out too: it is let past in this test alone.
    context = browser.new_context(base_url=desk.url, color_scheme=scheme, bypass_csp=True)
    for page in _signed_in(context.new_page()):
        for path in _PAGES:
            page.goto(path)
            page.evaluate(_AXE.read_text())
            found = page.evaluate("axe.run()")["violations"]
            serious = [
                (each["id"], each["nodes"][0]["html"][:200])
                for each in found
                if each["impact"] in ("serious", "critical")
            ]
            assert serious == [], path
    context.close()


def test_the_keyboard_is_enough(page: "Page") -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_reading_works_without_scripts(browser: "Browser", desk: SidecarAtHand) -> None:
    context = browser.new_context(base_url=desk.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Admin token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.locator("summary", has_text="The same as a table").click()
    page.locator("#days tbody a").first.click()
    page.locator("#usage").get_by_role("link", name="Acme").click()
    assert "organization_id=acme" in page.url
    context.close()


def test_a_statement_prints_on_paper(browser: "Browser", desk: SidecarAtHand) -> None:
    context = browser.new_context(base_url=desk.url)
    for page in _signed_in(context.new_page()):
        page.goto("/ui/statement?organization_id=globex&month=2026-11")
        page.emulate_media(media="print")
        page.set_viewport_size(_PAPER)
        is_cut = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert page.evaluate(is_cut) is False
        sums = "getComputedStyle(document.querySelector('#statement tfoot')).display"
        assert page.evaluate(sums) == "table-row-group", "or each sheet repeats the sums"
        assert page.locator(".top").is_visible() is False
        assert page.locator("#to-pay").is_visible()
        assert page.pdf(format="A4").startswith(b"%PDF")
    context.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_somebody_is_assigned_and_the_run_ends_in_sight(
    browser: "Browser", tmp_path: Path, kind: str
) -> None:
    with sidecar_on(kind, tmp_path) as desk:
        set_up(desk)
        assign_correct_and_run(browser, desk)


def assign_correct_and_run(browser: "Browser", desk: SidecarAtHand) -> None:
    context = browser.new_context(base_url=desk.url)
    for page in _signed_in(context.new_page()):
        page.goto("/ui/assignments")
        page.get_by_role("checkbox", name="Charlie").check()
        page.get_by_label("Organization").select_option("globex")
        page.get_by_role("button", name="Assign", exact=True).click()
        page.get_by_text("1 users will belong to Globex").wait_for()
        page.get_by_role("button", name="Yes, do it").click()
        page.get_by_role("link", name="Correct the assignment of Charlie").click()
        page.get_by_label("Organization").select_option("acme")
        page.get_by_role("button", name="Look at what it changes").click()
        page.get_by_text("go from Globex to Acme.").wait_for()
        page.get_by_role("button", name="Yes, do it").click()
        page.locator("#assigned tr", has_text="Charlie").get_by_text("Acme").wait_for()
        page.goto("/ui/runs")
        page.get_by_label("First day").fill("2026-10-01")
        page.get_by_role("button", name="Run").click()
        page.locator("#asked td", has_text=re.compile("^done$")).first.wait_for()
        page.goto("/ui/usage?by=organization_id")
        assert page.locator("#usage tbody tr", has_text="unassigned").count() == 0
    context.close()
