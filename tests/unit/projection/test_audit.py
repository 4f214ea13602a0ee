"""The audit: what is a correction, and how a difference reads."""

from dataclasses import replace
from datetime import date

from shared.core.amounts import Amounts
from shared.projection.audit import WRONG_MARKUP, find_corrections, find_differences
from shared.projection.organization import Directory, MarkupRate
from shared.projection.summary import DayFacts, DayFinding, SummaryKey, SummaryRow, UnmeteredCount
from tests.support.builders import ALICE, BOB
from tests.support.ledger import DAY, DEFAULTS, organization

BOOKS = Directory(
    {"acme": organization("acme")}, [MarkupRate("acme", date(1970, 1, 1), 2_000_000)], (), DEFAULTS
)


def row(user: str = ALICE, raw: int = 100, billed: int = 200) -> SummaryRow:
    key = SummaryKey(
        organization_id="acme",
        local_date=DAY,
        external_user=user,
        model="openai/gpt-5-mini",
        task="chat",
        source="function",
    )
    return SummaryRow(key, Amounts(events=1, raw_pico_usd=raw, billed_pico_usd=billed))


def test_a_day_that_is_not_final_may_change_without_a_record() -> None:
    found = find_corrections([row()], [row(raw=150, billed=300)], BOOKS, closed=False, why="late")
    assert found == []


def test_every_change_of_a_final_day_is_recorded_with_old_and_new() -> None:
    old = [row(ALICE), row(BOB)]
    new = [row(ALICE, raw=150, billed=300), row("charlie-id")]
    found = find_corrections(old, new, BOOKS, closed=True, why="late")
    assert [(each.key.external_user, each.old, each.new, each.why) for each in found] == [
        (ALICE, old[0].amounts, new[0].amounts, "late"),
        (BOB, old[1].amounts, None, "late"),
        ("charlie-id", None, new[1].amounts, "late"),
    ]


def test_a_final_day_that_stays_the_same_is_no_correction() -> None:
    assert find_corrections([row()], [row()], BOOKS, closed=True, why="by hand") == []


def test_a_wrong_markup_is_recorded_on_any_day_and_named() -> None:
    found = find_corrections([row(billed=130)], [row()], BOOKS, closed=False, why="")
    assert [(each.old, each.new, each.why) for each in found] == [
        (row(billed=130).amounts, row().amounts, WRONG_MARKUP)
    ]


def test_differences_name_the_row_and_the_column() -> None:
    count = UnmeteredCount(
        organization_id="acme",
        local_date=DAY,
        external_user=ALICE,
        model="m",
        task="title_generation",
        generations=1,
    )
    finding = DayFinding(
        organization_id="acme", local_date=DAY, request_id="gen-1", kind="conflict", detail="two"
    )
    stored = DayFacts([row()], [count], [])
    computed = DayFacts([row(raw=101)], [replace(count, generations=2)], [finding])
    told = [
        (each.subject, each.what, each.stored, each.computed)
        for each in find_differences(stored, computed)
    ]
    assert told == [
        ("alice-id / m / title_generation", "unmetered", "1", "2"),
        ("alice-id / openai/gpt-5-mini / chat / function", "raw_pico_usd", "100", "101"),
        ("gen-1", "conflict", "", "two"),
    ]
    assert find_differences(stored, stored) == []
