"""The statement: exact lines, one rounding, the rates it used, and what it does not cover."""

import csv
import io
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.builders import ALICE, NOON, generation_id, pending, settled, unmetered
from tests.support.pages import Visitor, add_client, signed_in, text_of, value_at
from tests.support.sidecars import ADMIN, SidecarAtHand

QUERY = {"organization_id": "acme", "month": "2026-11"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SidecarAtHand]:
    found = SidecarAtHand(tmp_path)
    add_client(found, "acme", ALICE, name="=Acme", currency="PLN", markup="1.25")
    found.book(
        [
            settled(cost_usd="0.0012"),
            settled(request_id=generation_id(2), model="anthropic/a", cost_usd="0.0012"),
            settled(request_id=generation_id(3), model="google/g", cost_usd="0.0012"),
            pending(request_id=generation_id(4), message_id="m-4"),
            unmetered(),
        ]
    )
    yield found
    found.close()


@pytest.fixture
def visitor(desk: SidecarAtHand) -> Iterator[Visitor]:
    with signed_in(desk) as found:
        yield found


def enter_rate(desk: SidecarAtHand, day: str = "2026-11-20") -> None:
    body = {"currency": "PLN", "local_date": day, "rate": "4"}
    assert desk.client.put(f"{ADMIN}/exchange-rates", json=body).status_code == 200


def test_lines_add_up_to_the_total_which_is_rounded_once(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    enter_rate(desk)
    text = visitor.page("/ui/statement.csv", **QUERY, by="model")
    lines = list(csv.DictReader(io.StringIO(text)))
    amounts = [Decimal(line["amount"]) for line in lines if line["line"] == "line"]
    totals = {line["line"]: line["amount"] for line in lines if line["line"].startswith("total")}
    assert amounts == [Decimal("0.006")] * 3
    assert totals == {"total, exact": "0.018", "total, rounded once": "0.02"}
    page = visitor.page("/ui/statement", **QUERY, by="model")
    assert value_at(page, "statement-billed") == "0.0045"
    assert "0.02 PLN" in text_of(page)


def test_whole_yen_are_paid_and_every_digit_is_shown(desk: SidecarAtHand, visitor: Visitor) -> None:
    change = {"currency": "JPY"}
    desk.client.patch(f"{ADMIN}/organizations/acme", json=change).raise_for_status()
    rate = {"currency": "JPY", "local_date": "2026-11-20", "rate": "150.5"}
    desk.client.put(f"{ADMIN}/exchange-rates", json=rate).raise_for_status()
    span = {"start": "2026-11-01", "end": "2026-11-30"}
    api = desk.client.get(f"{ADMIN}/organizations/acme/statement", params=span).json()
    assert (api["amount"], api["billed_usd"]) == ("1", "0.0045")
    assert "To pay 1 JPY" in text_of(visitor.page("/ui/statement", **QUERY))
    lines = list(csv.DictReader(io.StringIO(visitor.page("/ui/statement.csv", **QUERY))))
    assert [line["amount"] for line in lines[-4:-2]] == ["0.67725", "1"]


def test_the_file_names_the_markup_and_each_exchange_rate_with_its_day(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    enter_rate(desk)
    lines = list(csv.DictReader(io.StringIO(visitor.page("/ui/statement.csv", **QUERY))))
    told = ("line", "name", "currency", "rate", "rate_of")
    assert [tuple(line[column] for column in told) for line in lines[-2:]] == [
        ("markup", "2026-11-01", "", "1.25", "2026-11-01"),
        ("exchange rate", "2026-11-24", "PLN", "4", "2026-11-20"),
    ]


def test_it_equals_the_statement_of_the_api(desk: SidecarAtHand, visitor: Visitor) -> None:
    enter_rate(desk)
    span = {"start": "2026-11-01", "end": "2026-11-30"}
    api = desk.client.get(f"{ADMIN}/organizations/acme/statement", params=span).json()
    page = visitor.page("/ui/statement", **QUERY)
    assert value_at(page, "statement-billed") == api["billed_usd"]
    assert f"{api['amount']} PLN" in text_of(page)


def test_it_says_which_rate_it_borrowed_and_what_is_missing(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    assert "no exchange rate" in text_of(visitor.page("/ui/statement", **QUERY))
    enter_rate(desk)
    text = text_of(visitor.page("/ui/statement", **QUERY))
    assert "2026-11-24 4 2026-11-20 (the last one before)" in text
    assert "Pending, their cost is not known yet: 1" in text
    assert "no source shows: 1" in text
    assert "not final yet" in text
    assert "1.25 on what OpenRouter charged" in text


def test_a_month_that_is_long_over_is_final(desk: SidecarAtHand, visitor: Visitor) -> None:
    desk.clock.move(9 * 86_400)
    visitor.sign_in()
    assert "not final yet" not in text_of(visitor.page("/ui/statement", **QUERY))
    assert NOON.month == 11


def test_two_markups_of_a_month_are_both_named(desk: SidecarAtHand, visitor: Visitor) -> None:
    body = {"markup": "2", "valid_from": "2026-11-15"}
    desk.client.put(f"{ADMIN}/organizations/acme/rates", json=body)
    text = text_of(visitor.page("/ui/statement", **QUERY))
    assert re.search("1.25 from 2026-11-01, . 2 from 2026-11-15", text)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"organization_id": "nobody"}, 404),
        ({"organization_id": "acme", "month": "2026-13"}, 422),
        ({"organization_id": "acme", "month": "November"}, 422),
        ({"organization_id": "acme", "month": ""}, 200),
        ({"organization_id": "acme", "month": "9999-12"}, 422),
    ],
)
def test_an_unusable_query_is_an_error_page(
    visitor: Visitor, query: dict[str, str], status: int
) -> None:
    assert visitor.client.get("/ui/statement", params=query).status_code == status


def test_the_choice_names_every_organization(visitor: Visitor) -> None:
    assert "=Acme" in text_of(visitor.page("/ui/statements"))
