"""Corrections by a person: assignments, rates and zones that were wrong, put right afterwards."""

from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from shared.core.days import ZoneDay
from shared.core.event import UsageEvent
from shared.errors import ConfigError, Unavailable
from shared.event_store.port import Window
from shared.projection.day_reader import day_window, with_edges
from shared.summary_db.database import SummaryDatabase
from shared.summary_db.reports import UsageFilter
from tests.support.builders import ALICE, BOB
from tests.support.ledger import (
    DAY,
    TOKYO,
    WARSAW,
    BrokenStore,
    Ledger,
    generation,
    organization,
    utc,
)

MILLION = 1_000_000  # pico-USD in a microdollar
TOMORROW = DAY + timedelta(days=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    ledger.summaries.organizations.add(organization("acme"), 1_000_000)
    ledger.summaries.organizations.add(organization("edo", time_zone=TOKYO), 2_000_000)
    yield ledger
    ledger.close()


def events_of(ledger: Ledger) -> dict[str, int]:
    """Return how many events each organization has in all."""
    wanted = UsageFilter(start=DAY - timedelta(days=2), end=TOMORROW)
    lines = ledger.summaries.reports.usage(wanted, ("organization_id",))
    return {line.group["organization_id"]: line.amounts.events for line in lines}


def agrees(ledger: Ledger) -> bool:
    return ledger.projection.verify(DAY - timedelta(days=2), TOMORROW) == []


def test_an_assignment_made_afterwards_moves_what_was_booked(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 09:00"), generation(2, "2026-11-24 15:30"))
    ledger.refresh()
    assert events_of(ledger) == {"unassigned": 2}
    ledger.summaries.users.assign(ALICE, "edo", utc("2026-11-24 09:00:01"))
    ledger.refresh()
    assert events_of(ledger) == {"unassigned": 1, "edo": 1}
    assert ledger.billed(TOMORROW, TOKYO) == {"edo": 20 * MILLION}
    assert agrees(ledger)


def test_an_assignment_that_is_corrected_or_removed_leaves_no_trace(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 09:00"), generation(2, "2026-11-24 12:00"))
    wrong = ledger.summaries.users.assign(ALICE, "edo", utc("2026-11-24 00:00"))
    ledger.refresh()
    assert events_of(ledger) == {"edo": 2}
    ledger.summaries.users.correct_assignment(wrong, "acme", utc("2026-11-24 10:00"))
    ledger.refresh()
    assert events_of(ledger) == {"acme": 1, "unassigned": 1}
    ledger.summaries.users.remove_assignment(wrong)
    ledger.refresh()
    assert events_of(ledger) == {"unassigned": 2}
    assert agrees(ledger)


def test_a_re_attribution_of_a_final_day_is_recorded_with_its_reason(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 09:00"))
    ledger.clock.time = utc("2026-11-28 09:00")
    ledger.refresh(7)
    ledger.summaries.users.assign(ALICE, "acme", utc("2026-11-24 00:00"))
    assert ledger.refresh().corrections == 2
    records = ledger.summaries.runs.corrections()
    whys = {record.correction.why for record in records}
    assert whys == {f"assignment of {ALICE}"}
    moved = {record.correction.key.organization_id: record.correction for record in records}
    assert moved["acme"].old is None
    assert moved["unassigned"].new is None


def test_only_days_on_which_the_user_was_seen_are_projected_again(ledger: Ledger) -> None:
    ledger.book(
        generation(1, "2026-11-20 09:00"), generation(2, "2026-11-24 09:00", external_user=BOB)
    )
    ledger.refresh(10)
    ledger.summaries.users.assign(BOB, "acme", utc("2026-11-01 00:00"))
    dates = {dirty.day.local_date for dirty in ledger.summaries.days.dirty_days()}
    assert dates == {DAY - timedelta(days=1), DAY, TOMORROW}


def test_an_assignment_ends_where_the_next_begins(ledger: Ledger) -> None:
    ledger.book(*(generation(number, f"2026-11-{20 + number} 09:00") for number in range(5)))
    ledger.refresh(10)
    ledger.summaries.users.assign(ALICE, "acme", utc("2026-11-23 00:00"))
    ledger.refresh(10)
    ledger.summaries.users.assign(ALICE, "edo", utc("2026-11-21 12:00"))
    dates = {dirty.day.local_date.day for dirty in ledger.summaries.days.dirty_days()}
    assert dates == {21, 22, 23}
    ledger.refresh(10)
    ledger.clock.time = utc("2026-11-24 18:00")
    assert events_of(ledger) == {"edo": 1, "acme": 2}


def test_a_rate_set_afterwards_changes_the_days_until_the_next_rate(ledger: Ledger) -> None:
    for step in range(3):
        ledger.book(generation(step, f"2026-11-{22 + step} 09:00", client_org_id="acme"))
    ledger.summaries.organizations.set_rate("acme", DAY, 3_000_000)
    ledger.refresh(5)
    ledger.summaries.organizations.set_rate("acme", DAY - timedelta(days=1), 2_000_000)
    assert [dirty.reasons for dirty in ledger.summaries.days.dirty_days()] == [("rate of acme",)]
    ledger.refresh(5)
    bills = [ledger.billed(DAY - timedelta(days=step))["acme"] for step in (2, 1, 0)]
    assert bills == [10 * MILLION, 20 * MILLION, 30 * MILLION]


def test_another_zone_moves_the_days_of_an_organization(ledger: Ledger) -> None:
    ledger.book(
        *(generation(hour, f"2026-11-24 {hour:02d}:20", client_org_id="acme") for hour in range(24))
    )
    ledger.refresh()
    assert sum(row.amounts.events for row in ledger.rows(DAY)) == 23
    ledger.summaries.organizations.change(organization("acme", time_zone=TOKYO))
    ledger.book(generation(99, "2026-11-24 23:40", client_org_id="acme"))
    ledger.refresh()
    assert sum(row.amounts.events for row in ledger.rows(DAY, TOKYO)) == 15
    assert events_of(ledger) == {"acme": 25}
    assert agrees(ledger)


def test_events_that_wait_while_a_zone_changes_are_not_lost(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00", client_org_id="acme"))
    whole = ledger.store
    warsaw = with_edges(day_window(ZoneDay(DAY, WARSAW)))

    class DownForWarsaw(BrokenStore):
        def repeated(self, window: Window) -> Collection[UsageEvent]:
            if window == warsaw:
                raise Unavailable("down")
            return list(whole.repeated(window))

    ledger.store = DownForWarsaw(whole, "", Unavailable("never"))
    [failure] = ledger.projection.refresh(2).failures
    assert failure.day == ZoneDay(DAY, WARSAW)
    ledger.store = whole
    # The quarter of an hour is known from Tokyo's day; only the waiting mark tells of Warsaw's.
    ledger.summaries.organizations.change(organization("acme", time_zone="Asia/Kolkata"))
    ledger.refresh()
    assert events_of(ledger) == {"acme": 1}


def test_another_base_of_the_markup_changes_every_day(ledger: Ledger) -> None:
    byok = {"is_byok": True, "upstream_cost_usd": Decimal("0.00001"), "client_org_id": "acme"}
    ledger.book(generation(1, "2026-11-24 09:00", **byok))
    ledger.refresh()
    assert ledger.billed() == {"acme": 20 * MILLION}
    ledger.summaries.organizations.change(organization("acme", fee_only=True))
    ledger.refresh()
    assert ledger.billed() == {"acme": 10 * MILLION}


def test_a_name_alone_is_no_reason_to_project(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 09:00", client_org_id="acme"))
    ledger.refresh()
    ledger.summaries.organizations.change(organization("acme", name="ACME Inc."))
    assert ledger.summaries.days.dirty_days() == []
    assert ledger.summaries.organizations.directory().organization("acme").name == "ACME Inc."


@pytest.mark.parametrize(
    "mistake",
    [
        lambda summaries: summaries.users.assign(ALICE, "nobody", utc("2026-11-24 00:00")),
        lambda summaries: summaries.users.assign(ALICE, "acme", datetime(2026, 11, 24)),  # noqa: DTZ001
        lambda summaries: summaries.users.assign(" ", "acme", utc("2026-11-24 00:00")),
        lambda summaries: summaries.users.correct_assignment(7, "acme", utc("2026-11-24 00:00")),
        lambda summaries: summaries.users.remove_assignment(7),
        lambda summaries: summaries.organizations.set_rate("nobody", DAY, 1_000_000),
        lambda summaries: summaries.organizations.set_rate("acme", DAY, -1),
        lambda summaries: summaries.organizations.add(organization("acme")),
        lambda summaries: summaries.organizations.add(organization("a\nb")),
        lambda summaries: summaries.organizations.add(organization("x", time_zone="Mars/Base")),
        lambda summaries: summaries.organizations.change(organization("nobody")),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_and_changes_nothing(
    ledger: Ledger, mistake: Callable[[SummaryDatabase], object]
) -> None:
    before = ledger.summaries.organizations.directory()
    with pytest.raises(ConfigError):
        mistake(ledger.summaries)
    assert ledger.summaries.organizations.directory() == before


def test_two_assignments_of_a_user_cannot_begin_at_once(ledger: Ledger) -> None:
    first = ledger.summaries.users.assign(ALICE, "acme", utc("2026-11-24 00:00"))
    ledger.summaries.users.assign(ALICE, "edo", utc("2026-11-25 00:00"))
    with pytest.raises(ConfigError, match="another assignment"):
        ledger.summaries.users.correct_assignment(first, "acme", utc("2026-11-25 00:00"))
    ledger.summaries.users.assign(ALICE, "edo", utc("2026-11-24 00:00"))
    moves = ledger.summaries.organizations.directory().assignments
    assert [move.organization_id for move in moves] == ["edo", "edo"]


def test_a_final_day_stays_final_when_its_organization_moves_to_a_new_zone(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 09:00", client_org_id="acme"))
    ledger.clock.time = utc("2026-11-28 09:00")
    ledger.refresh(7)
    ledger.summaries.organizations.change(organization("acme", time_zone="Pacific/Kiritimati"))
    assert ledger.refresh().corrections == 0  # still the same date there
    ledger.summaries.organizations.change(organization("acme", time_zone="America/Los_Angeles"))
    ledger.book(generation(2, "2026-11-24 07:00", client_org_id="acme"))
    assert ledger.refresh(7).corrections == 1
    assert ledger.summaries.runs.corrections()[0].correction.key.local_date == DAY - timedelta(
        days=1
    )
