"""The door of the pages: nothing without a session, no form of others, nothing that is not ours."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from scheduler.dashboard import vendor
from scheduler.dashboard.app import create_dashboard
from scheduler.dashboard.sessions import SESSION_LIFETIME
from scheduler.dashboard.views.sign_in import local_path
from tests.support.pages import Visitor, text_of
from tests.support.sidecars import ADMIN, TOKEN, SidecarAtHand


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SidecarAtHand]:
    found = SidecarAtHand(tmp_path)
    yield found
    found.close()


@pytest.fixture
def visitor(desk: SidecarAtHand) -> Iterator[Visitor]:
    found = Visitor(desk)
    yield found
    found.close()


def page_routes(desk: SidecarAtHand) -> list[tuple[str, str]]:
    state = create_dashboard.__globals__["_PAGES"]
    return [
        (method, route.path)
        for module in state
        for route in module.router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]


def test_no_page_opens_without_a_session(desk: SidecarAtHand, visitor: Visitor) -> None:
    found = page_routes(desk)
    assert ("GET", "/") in found
    visitor.client.follow_redirects = False
    for method, path in found:
        place = path if path == "/" else f"/ui{path}".replace("{", "").replace("}", "")
        answer = visitor.client.request(method, place)
        assert answer.status_code == 303, f"{method} {place}"
        assert answer.headers["location"].startswith("/ui/sign-in"), f"{method} {place}"


def test_the_token_opens_and_signing_out_closes(visitor: Visitor) -> None:
    assert "Admin token" in visitor.page("/")
    assert "This month" in visitor.sign_in().text
    assert "This month" in visitor.page("/")
    visitor.submit("/", "/ui/sign-out")
    assert "Admin token" in visitor.page("/")


def test_a_copied_cookie_is_worth_nothing_after_signing_out(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    visitor.sign_in()
    thief = Visitor(desk)
    thief.client.cookies.update(visitor.client.cookies)
    assert "This month" in thief.page("/")
    visitor.submit("/", "/ui/sign-out")
    assert "Admin token" in thief.page("/")
    thief.close()


def test_a_session_ends_by_itself(desk: SidecarAtHand, visitor: Visitor) -> None:
    visitor.sign_in()
    desk.clock.move(SESSION_LIFETIME.total_seconds() - 1)
    assert "This month" in visitor.page("/")
    desk.clock.move(1)
    assert "Admin token" in visitor.page("/")


def test_five_wrong_tokens_a_minute_close_the_door_of_the_api_too(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    for _ in range(5):
        assert visitor.sign_in("wrong").status_code == 401
    assert visitor.sign_in().status_code == 429
    assert desk.client.get(f"{ADMIN}/service-status").status_code == 429
    desk.clock.move(61)
    assert visitor.sign_in().status_code == 200


def test_a_form_that_no_page_made_is_refused(visitor: Visitor) -> None:
    visitor.sign_in()
    assert visitor.send("/ui/sign-out").status_code == 403
    assert visitor.send("/ui/sign-out", csrf="guessed").status_code == 403
    assert "This month" in visitor.page("/")


def test_the_cookie_is_for_us_alone(desk: SidecarAtHand, visitor: Visitor) -> None:
    answer = visitor.client.get("/ui/sign-in")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie.replace("httponly", "")
    proxied = desk.stranger.get("/ui/sign-in", headers={"X-Forwarded-Proto": "https"})
    assert "; secure" in proxied.headers["set-cookie"].lower()


@pytest.mark.parametrize("path", ["/", "/ui/sign-in", "/ui/nothing", "/ui/static/ledger.css"])
def test_every_answer_forbids_what_is_not_ours(visitor: Visitor, path: str) -> None:
    headers = visitor.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_pages_hold_no_inline_script_and_no_inline_style() -> None:
    templates = sorted(Path(vendor.__file__).parent.glob("templates/*.html"))
    assert templates
    for path in templates:
        text = path.read_text()
        assert " style=" not in text, path.name
        assert " onclick" not in text, path.name
        assert all("src=" in part.partition(">")[0] for part in text.split("<script")[1:]), path


def test_without_a_token_the_page_says_what_to_set(tmp_path: Path) -> None:
    desk = SidecarAtHand(tmp_path, usage_admin_token=None)
    visitor = Visitor(desk)
    assert "closed until USAGE_ADMIN_TOKEN is set" in text_of(visitor.page("/"))
    assert visitor.send("/ui/sign-in", token="", csrf="").status_code == 403
    visitor.close()
    desk.close()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("/ui/usage?by=model", "/ui/usage?by=model"),
        ("https://elsewhere.example", "/"),
        ("//elsewhere.example", "/"),
        ("/ui/\\elsewhere", "/"),
        ("/api/v1", "/"),
    ],
)
def test_signing_in_leads_nowhere_else(wanted: str, found: str) -> None:
    assert local_path(wanted) == found


def test_a_session_opens_pages_and_not_the_api(visitor: Visitor) -> None:
    visitor.sign_in()
    assert visitor.client.get(f"{ADMIN}/service-status").status_code == 401


def test_the_token_stands_on_no_page(visitor: Visitor) -> None:
    visitor.sign_in()
    assert TOKEN not in visitor.page("/")


def test_what_was_vendored_is_what_the_manifest_says() -> None:
    manifest = json.loads((vendor.VENDORED / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest] == [each.name for each in vendor.SHIPPED]
    named = {name: digest for entry in manifest for name, digest in entry["sha256"].items()}
    there = {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in vendor.VENDORED.iterdir()
        if path.name != "manifest.json"
    }
    assert there == named
