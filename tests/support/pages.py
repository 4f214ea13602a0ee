"""The pages in tests: a sidecar with usage to show, and a visitor that reads and sends forms."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx

from tests.support.services.postgres import a_database
from tests.support.sidecars import ADMIN, TOKEN, SidecarAtHand

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


class Visitor:
    """A browser without scripts: it keeps its cookie and follows redirects."""

    def __init__(self, desk: SidecarAtHand) -> None:
        self.client = httpx.Client(
            base_url=desk.url, timeout=30, trust_env=False, follow_redirects=True
        )

    def sign_in(self, token: str = TOKEN) -> httpx.Response:
        """Fill in the form."""
        return self.send("/ui/sign-in", token=token, csrf=self.csrf("/ui/sign-in"))

    def page(self, path: str, **params: Any) -> str:
        """Return a page that must be there."""
        answer = self.client.get(path, params=params or None)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {text_of(answer.text)}"
        return answer.text

    def csrf(self, path: str) -> str:
        """Return what a form of a page must bring back."""
        found = _CSRF.search(self.page(path))
        assert found, path
        return found[1]

    def send(self, path: str, **form: Any) -> httpx.Response:
        """Send a form."""
        return self.client.post(path, data=form)

    def submit(self, page: str, path: str, **form: Any) -> str:
        """Send a form that stands on a page and return what it leads to."""
        answer = self.send(path, csrf=self.csrf(page), **form)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {text_of(answer.text)}"
        return answer.text

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


@contextmanager
def sidecar_on(database: str, folder: Path, **changed: Any) -> Iterator[SidecarAtHand]:
    """Run a sidecar whose summaries are in a database of a kind."""
    with a_database(database, folder) as url:
        desk = SidecarAtHand(folder, usage_database_url=url, **changed)
        yield desk
        desk.close()


@contextmanager
def signed_in(desk: SidecarAtHand) -> Iterator[Visitor]:
    """Let a visitor in."""
    visitor = Visitor(desk)
    visitor.sign_in()
    yield visitor
    visitor.close()


def add_client(desk: SidecarAtHand, organization_id: str, user: str, **changed: str) -> None:
    """Add an organization, named by its id unless that is changed, and assign a user to it."""
    organization = {"organization_id": organization_id, "name": organization_id.title(), **changed}
    desk.client.post(f"{ADMIN}/organizations", json=organization).raise_for_status()
    assignment = {"external_user": user, "organization_id": organization_id}
    desk.client.post(f"{ADMIN}/assignments", json=assignment).raise_for_status()


def text_of(html: str) -> str:
    """Return what a person reads."""
    body = re.sub(r"(?s)<head>.*?</head>", " ", html)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body))).strip()


def value_at(html: str, place: str) -> str:
    """Return the exact amount at an id, as the API writes it."""
    found = re.search(rf'id="{place}"[^>]*><data value="([^"]+)"', html)
    assert found, place
    return found[1]


def count_at(html: str, place: str) -> str:
    """Return the text at an id."""
    found = re.search(rf'id="{place}"[^>]*>([^<]+)<', html)
    assert found, place
    return found[1].strip()


def values_in(html: str, place: str) -> list[str]:
    """Return all exact amounts in the table bodies within the element of an id."""
    _, _, behind = html.partition(f'id="{place}"')
    body = behind.partition("<tbody>")[2].partition("</tbody>")[0]
    return re.findall(r'<data value="([^"]+)"', body)
