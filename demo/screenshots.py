"""`make screenshots`: screenshots of the dashboard, from the year of the demo."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import httpx
from playwright.sync_api import Browser, ViewportSize, sync_playwright
from rich.console import Console

from demo.installation import ROOT
from demo.plays.year import opened_year
from demo.processes import wait_for

PICTURES = ROOT / "docs" / "screenshots"
_SWITCHES = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
_DESKTOP: ViewportSize = {"width": 1280, "height": 1120}
_PHONE: ViewportSize = {"width": 390, "height": 844}
# The plugin reports from its first use on; delivery and projection end within this.
_READY_SECONDS = 180


@dataclass(frozen=True)
class Picture:
    """A page in a window of one size, light or dark."""

    name: str
    path: str
    size: ViewportSize
    scheme: Literal["light", "dark"] = "light"


def pictures(today: datetime) -> list[Picture]:
    """Return the pictures of the documentation."""
    last_month = today.replace(day=1) - timedelta(days=1)
    statement = f"/ui/statement?organization_id=baltic-legal&month={last_month:%Y-%m}&by=model"
    return [
        Picture("overview", "/", _DESKTOP),
        Picture("overview-dark", "/", _DESKTOP, "dark"),
        Picture("overview-phone", "/", _PHONE),
        Picture("usage", "/ui/usage?by=external_user", _DESKTOP),
        Picture("statement", statement, _DESKTOP),
        Picture("statement-phone", statement, _PHONE),
        Picture("assignments", "/ui/assignments", _DESKTOP),
        Picture("hosts", "/ui/hosts", _DESKTOP, "dark"),
    ]


def take(page_url: str, admin_token: str, folder: Path) -> None:
    """Take all pictures of the pages at an address, once its sidecar is ready."""
    folder.mkdir(parents=True, exist_ok=True)
    wait_for(lambda: _is_ready(page_url), f"{page_url} to be ready", _READY_SECONDS)
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=_SWITCHES)
        for picture in pictures(datetime.now(UTC)):
            _take(browser, page_url, admin_token, picture, folder)
        browser.close()


def main(arguments: Sequence[str]) -> None:
    """Take the pictures of a running page, or of a year that is started for them."""
    parser = argparse.ArgumentParser(prog="python -m demo.screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=PICTURES)
    parser.add_argument("--open-page", nargs=2, metavar=("URL", "TOKEN"))
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False)
    if chosen.open_page:
        page_url, admin_token = chosen.open_page
        take(page_url, admin_token, chosen.folder)
    else:
        with opened_year(console) as stage:
            take(stage.page_url, stage.admin_token, chosen.folder)
    console.print(f"The pictures are in {chosen.folder}.")


def _take(browser: Browser, page_url: str, token: str, picture: Picture, folder: Path) -> None:
    context = browser.new_context(
        viewport=picture.size, base_url=page_url, color_scheme=picture.scheme
    )
    page = context.new_page()
    page.goto("/ui/sign-in")
    page.get_by_label("Admin token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.locator("#strip").wait_for()
    page.goto(picture.path)
    page.screenshot(path=folder / f"{picture.name}.png")
    context.close()


def _is_ready(page_url: str) -> bool:
    try:
        return httpx.get(f"{page_url}/ready", timeout=30, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
