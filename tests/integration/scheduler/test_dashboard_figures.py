"""The figures of the pages: the API's, to the last digit, on every way down to the event."""

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shared.core.rows import UserRow
from tests.support.builders import ALICE, BOB, NOON, generation_id, pending, settled, unmetered
from tests.support.pages import (
    Visitor,
    add_client,
    count_at,
    sidecar_on,
    signed_in,
    text_of,
    value_at,
    values_in,
)
from tests.support.services.postgres import DATABASES
from tests.support.sidecars import ADMIN, SidecarAtHand

MONTH = {"start": "2026-11-01", "end": "2026-11-24"}
OCTOBER = NOON - timedelta(days=31)


@pytest.fixture(params=DATABASES)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SidecarAtHand]:
    chat = "https://chat.example/"
    with sidecar_on(request.param, tmp_path, usage_open_webui_url=chat) as found:
        add_client(found, "acme", ALICE, markup="1.3")
        add_client(found, "globex", BOB, markup="1.3")
        yield found


@pytest.fixture
def visitor(desk: SidecarAtHand) -> Iterator[Visitor]:
    with signed_in(desk) as found:
        yield found


def book_usage(desk: SidecarAtHand) -> None:
    earlier = int(OCTOBER.timestamp())
    desk.book(
        [
            settled(cost_usd="12.345678901234"),
            settled(request_id=generation_id(2), external_user=BOB, message_id="m-2"),
            settled(request_id=generation_id(3), model="anthropic/claude", message_id="m-3"),
            pending(request_id=generation_id(4), message_id="m-4"),
            settled(
                request_id=generation_id(5, earlier),
                occurred_at=OCTOBER,
                cost_usd=2,
                message_id="m-5",
            ),
            unmetered(),
            UserRow(user_id=ALICE, occurred_at=NOON, name="Alice <b>", email="a@example.org"),
        ]
    )


def get(desk: SidecarAtHand, path: str, **params: Any) -> Any:
    answer = desk.client.get(f"{ADMIN}/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_overview_says_what_the_api_says(desk: SidecarAtHand, visitor: Visitor) -> None:
    book_usage(desk)
    page = visitor.page("/")
    month = get(desk, "summaries", **MONTH)["total"]
    before = get(desk, "summaries", start="2026-10-01", end="2026-10-24")["total"]
    assert value_at(page, "month-billed") == month["billed_usd"] == "16.049435221604"
    assert value_at(page, "month-cost") == month["raw_usd"]
    assert value_at(page, "booked") == month["raw_usd"]
    assert value_at(page, "today-billed") == month["billed_usd"]
    assert value_at(page, "before-billed") == before["billed_usd"] == "2.6"
    complete = get(desk, "completeness", **MONTH)
    for name in ("pending", "unmetered", "conflicts"):
        assert count_at(page, name) == str(complete[name])


@pytest.mark.parametrize("side", ["organization_id", "external_user", "model", "provider", "task"])
def test_every_side_of_the_overview_is_the_apis(
    desk: SidecarAtHand, visitor: Visitor, side: str
) -> None:
    book_usage(desk)
    lines = get(desk, "summaries", **MONTH, group_by=side)["lines"]
    wanted = sorted(lines, key=lambda line: -Decimal(line["amounts"]["billed_usd"]))
    amounts = [line["amounts"][name] for line in wanted for name in ("raw_usd", "billed_usd")]
    assert values_in(visitor.page("/"), f"by-{side}") == amounts


@pytest.mark.parametrize("by", ["external_user", "model", "provider", "day", "week", "month"])
def test_a_page_equals_its_files(desk: SidecarAtHand, visitor: Visitor, by: str) -> None:
    book_usage(desk)
    shown = {"start": "2026-10-01", "end": "2026-11-24", "by": by, "sort": "name"}
    page = visitor.page("/ui/usage", **shown)
    lines = list(csv.DictReader(io.StringIO(visitor.page("/ui/download/summaries.csv", **shown))))
    as_json = visitor.client.get("/ui/download/summaries.json", params=shown).json()
    exported = [line[name] for line in lines for name in ("raw_usd", "billed_usd")]
    assert values_in(page, "usage") == exported
    assert [line[by] for line in as_json] == [line[by] for line in lines]
    assert all(line[by] in page for line in lines)
    total = sum(Decimal(line["billed_usd"]) for line in lines)
    assert Decimal(value_at(page, "total-billed")) == total > 0


def test_it_leads_from_the_organization_to_the_event(desk: SidecarAtHand, visitor: Visitor) -> None:
    book_usage(desk)
    steps = [
        ({}, "by=organization_id", "Acme"),
        ({"organization_id": "acme"}, "", "Alice"),
        ({"external_user": ALICE}, "", "openai/gpt-5-mini"),
        ({"model": "openai/gpt-5-mini"}, "", "2026-11-24"),
    ]
    shown: dict[str, str] = dict(MONTH)
    for more, _, found in steps:
        shown |= more
        page = visitor.page("/ui/usage", **shown)
        assert found in text_of(page)
    assert "/ui/events?start=2026-11-24&amp;end=2026-11-24&amp;organization_id=acme" in page
    events = visitor.page("/ui/events", **shown)
    assert generation_id() in events
    assert generation_id(2) not in events
    assert 'href="https://chat.example/c/chat-1"' in events


def test_events_add_up_to_their_figure(desk: SidecarAtHand, visitor: Visitor) -> None:
    book_usage(desk)
    costs = values_in(visitor.page("/ui/events", **MONTH), "events")
    total = value_at(visitor.page("/ui/usage", **MONTH), "total-cost")
    assert sum(map(Decimal, costs)) == Decimal(total)
    listed = get(desk, "events", **MONTH)["events"]
    assert visitor.client.get("/ui/download/events.json", params=MONTH).json() == listed


def test_what_is_not_complete_opens_its_list(desk: SidecarAtHand, visitor: Visitor) -> None:
    book_usage(desk)
    desk.book([settled(source="settlement", cost_usd=1)])
    waiting = visitor.page("/ui/events", cost="pending")
    assert generation_id(4) in waiting
    assert generation_id(3) not in waiting
    assert "cost=pending" in waiting.partition("/ui/download/events.csv")[2].partition('"')[0]
    listed = visitor.client.get("/ui/download/events.json", params={**MONTH, "cost": "pending"})
    assert [each["request_id"] for each in listed.json()] == [generation_id(4)]
    assert "title_generation" in visitor.page("/ui/unmetered")
    assert generation_id() in visitor.page("/ui/findings")
    assert count_at(visitor.page("/"), "conflicts") == "1"


def test_a_late_event_shows_at_once_wherever_it_belongs(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    book_usage(desk)
    assert value_at(visitor.page("/"), "before-billed") == "2.6"
    earlier = int(OCTOBER.timestamp())
    desk.book(
        [settled(request_id=generation_id(6, earlier), occurred_at=OCTOBER, message_id="m-6")]
    )
    assert value_at(visitor.page("/"), "before-billed") == "2.600026325"


def test_a_first_visit_finds_what_was_added_up_before(
    desk: SidecarAtHand, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    book_usage(desk)
    desk.sidecar.run_job("pages")
    asked: list[object] = []
    monkeypatch.setattr(
        desk.sidecar.summaries.reports, "usage", lambda *wanted: asked.append(wanted)
    )
    for by in ("organization_id", "external_user", "provider", "source", "week", "month"):
        page = visitor.page("/ui/usage", **MONTH, by=by)
        assert value_at(page, "total-billed") == "16.049435221604"
    assert asked == []
    assert visitor.client.get("/ui/usage?model=openai/gpt-5-mini").status_code == 500


def test_names_are_text_whatever_they_are(desk: SidecarAtHand, visitor: Visitor) -> None:
    book_usage(desk)
    page = visitor.page("/ui/usage", by="external_user")
    assert "Alice &lt;b&gt;" in page
    assert "Alice <b>" not in page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ui/usage?start=2026-11-24&end=2026-11-01", 409),
        ("/ui/usage?start=yesterday", 422),
        ("/ui/usage?start=&end=&model=", 200),
        ("/ui/usage?by=nonsense", 200),
        ("/ui/events?after=nonsense", 422),
        ("/ui/nothing", 404),
    ],
)
def test_an_address_that_cannot_be_used_is_answered_with_a_page(
    visitor: Visitor, path: str, status: int
) -> None:
    answer = visitor.client.get(path)
    assert answer.status_code == status
    assert "<main" in answer.text
