"""Projecting a day: each bill once, on its own day, for its own organization."""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from shared.core.days import ZoneDay
from tests.support.builders import ALICE, pending, settled, turn, unmetered
from tests.support.ledger import DAY, NEW_YORK, TOKYO, WARSAW, Ledger, generation, organization, utc

MILLION = 1_000_000  # pico-USD in a microdollar


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()


def test_a_bill_is_booked_to_its_organization_with_the_markup(ledger: Ledger) -> None:
    ledger.summaries.organizations.add(organization("acme"), 1_500_000)
    ledger.book(generation(1, "2026-11-24 12:00", client_org_id="acme"))
    ledger.project()
    [row] = ledger.rows()
    assert (row.key.organization_id, row.key.external_user, row.key.task) == ("acme", ALICE, "chat")
    assert (row.amounts.events, row.amounts.raw_pico_usd) == (1, 10 * MILLION)
    assert row.amounts.billed_pico_usd == 15 * MILLION


def test_an_organization_that_nobody_added_is_created_with_the_defaults(ledger: Ledger) -> None:
    ledger.book(
        generation(1, "2026-11-24 12:00"), generation(2, "2026-11-24 12:01", client_org_id="new")
    )
    ledger.project()
    directory = ledger.summaries.organizations.directory()
    assert sorted(directory.organizations) == ["new", "unassigned"]
    assert directory.organization("new").time_zone == WARSAW
    assert ledger.billed() == {"new": 13 * MILLION, "unassigned": 13 * MILLION}


def test_projecting_again_writes_nothing_and_corrects_nothing(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"), unmetered())
    ledger.project()
    before = ledger.summaries.days.stored_day(ZoneDay(DAY, WARSAW))
    ledger.clock.time += timedelta(days=10)
    again = ledger.project()
    assert (again.rows_written, again.corrections) == (0, 0)
    assert ledger.summaries.days.stored_day(ZoneDay(DAY, WARSAW)) == before


def test_the_same_bill_seen_by_two_sources_is_booked_once(ledger: Ledger) -> None:
    seen = generation(1, "2026-11-24 12:00")
    ledger.book(seen, seen.model_copy(update={"source": "webhook", "cost_source": "webhook"}))
    report = ledger.project()
    assert [outcome.was_resolved for outcome in report.outcomes] == [True]
    assert ledger.billed() == {"unassigned": 13 * MILLION}


def test_a_day_of_unique_bills_is_added_up_by_the_store(ledger: Ledger) -> None:
    ledger.book(*(generation(number, "2026-11-24 12:00") for number in range(5)))
    report = ledger.project()
    assert [outcome.was_resolved for outcome in report.outcomes] == [False]
    assert [outcome.events_read for outcome in report.outcomes] == [5]


def test_a_whole_answer_beside_another_source_is_resolved(ledger: Ledger) -> None:
    answer = turn(occurred_at=utc("2026-11-24 12:00"), cost_usd=Decimal("0.00001"))
    part = generation(1, "2026-11-24 12:00", chat_id="chat-1", message_id="message-1")
    ledger.book(answer, part)
    report = ledger.project()
    assert [outcome.was_resolved for outcome in report.outcomes] == [True]
    assert [row.key.source for row in ledger.rows()] == ["function"]


def test_an_answer_before_midnight_yields_to_its_generation_after_it(ledger: Ledger) -> None:
    answer = turn(occurred_at=utc("2026-11-24 22:59:58"))
    part = generation(1, "2026-11-24 23:00:03", chat_id="chat-1", message_id="message-1")
    ledger.book(answer, part)
    ledger.project(DAY, DAY + timedelta(days=1))
    assert ledger.rows(DAY) == []
    assert ledger.billed(DAY + timedelta(days=1)) == {"unassigned": 13 * MILLION}


def test_turns_that_are_only_observed_are_listed_and_not_billed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, turns="observe")
    ledger.book(turn(occurred_at=utc("2026-11-24 12:00")))
    ledger.project()
    facts = ledger.summaries.days.stored_day(ZoneDay(DAY, WARSAW))
    ledger.close()
    assert facts.rows == []
    assert [(each.kind, each.organization_id) for each in facts.findings] == [
        ("unmatched", "unassigned")
    ]


def test_a_conflict_is_billed_once_and_listed(ledger: Ledger) -> None:
    ledger.book(
        generation(1, "2026-11-24 12:00"),
        generation(1, "2026-11-24 12:00", cost_usd=Decimal("0.00002")),
    )
    ledger.project()
    facts = ledger.summaries.days.stored_day(ZoneDay(DAY, WARSAW))
    assert ledger.billed() == {"unassigned": 26 * MILLION}
    assert [(each.request_id[:4], each.kind) for each in facts.findings] == [("gen-", "conflict")]


@pytest.mark.parametrize("repeated", [False, True], ids=["as sums", "event by event"])
def test_an_unmetered_answer_is_cancelled_by_its_late_outlet(
    ledger: Ledger, repeated: bool
) -> None:
    silent = {"task": "chat", "message_id": "message-1"}
    ledger.book(
        unmetered(request_id="task:1"),
        unmetered(request_id="turn:chat-1:message-1", **silent),
        unmetered(request_id="turn:chat-1:message-2", **silent | {"message_id": "message-2"}),
        turn(occurred_at=utc("2026-11-24 12:00:01")),
    )
    if repeated:
        ledger.book(turn(occurred_at=utc("2026-11-24 12:00:01"), cost_usd=Decimal("0.1")))
    ledger.project()
    counts = ledger.summaries.days.stored_day(ZoneDay(DAY, WARSAW)).unmetered
    assert [(each.task, each.generations) for each in counts] == [
        ("chat", 1),
        ("title_generation", 1),
    ]


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (DAY, 24)]
)
def test_a_day_holds_every_one_of_its_hours_once(ledger: Ledger, day: date, hours: int) -> None:
    first = utc(f"{day - timedelta(days=1)} 20:30")
    ledger.book(
        *(
            generation(number, f"{first + timedelta(hours=number):%Y-%m-%d %H:%M}")
            for number in range(28)
        )
    )
    ledger.clock.time = utc(f"{day + timedelta(days=2)} 12:00")
    ledger.project(day - timedelta(days=1), day + timedelta(days=1))
    counts = [
        sum(row.amounts.events for row in ledger.rows(day + timedelta(days=step)))
        for step in (-1, 0, 1)
    ]
    assert counts[1] == hours
    assert sum(counts) == 28


def test_every_organization_has_the_days_of_its_own_zone(ledger: Ledger) -> None:
    for name, zone in (("acme", WARSAW), ("edo", TOKYO), ("gotham", NEW_YORK)):
        ledger.summaries.organizations.add(organization(name, time_zone=zone))
        ledger.book(generation(ord(name[0]), "2026-11-24 23:30", client_org_id=name))
    ledger.project(DAY, DAY + timedelta(days=1))
    tomorrow = DAY + timedelta(days=1)
    assert ledger.billed(tomorrow, WARSAW) == {"acme": 13 * MILLION}
    assert ledger.billed(tomorrow, TOKYO) == {"edo": 13 * MILLION}
    assert ledger.billed(DAY, NEW_YORK) == {"gotham": 13 * MILLION}
    assert ledger.total(DAY, tomorrow).events == 3


def test_rates_are_those_of_the_day(ledger: Ledger) -> None:
    ledger.summaries.organizations.add(organization("acme"), 1_000_000)
    ledger.summaries.organizations.set_rate("acme", DAY + timedelta(days=1), 2_000_000)
    for step in (0, 1):
        at = f"{DAY + timedelta(days=step)} 12:00"
        ledger.book(generation(step, at, client_org_id="acme"))
    ledger.project(DAY, DAY + timedelta(days=1))
    assert ledger.billed(DAY) == {"acme": 10 * MILLION}
    assert ledger.billed(DAY + timedelta(days=1)) == {"acme": 20 * MILLION}


def test_a_sum_beyond_64_bits_is_refused_and_nothing_is_written(ledger: Ledger) -> None:
    huge = Decimal(9_000_000)
    ledger.book(*(generation(number, "2026-11-24 12:00", cost_usd=huge) for number in (1, 2)))
    report = ledger.projection.project_days(DAY, DAY)
    assert "64 bits" in str(report.failures[0].error)
    assert ledger.rows() == []


def test_days_that_are_read_at_once_give_the_same_summaries(tmp_path: Path) -> None:
    bills = {}
    for width in (1, 4):
        folder = tmp_path / str(width)
        folder.mkdir()
        ledger = Ledger(folder, parallel_days=width)
        ledger.book(
            *(
                generation(hour, f"{utc('2026-11-20 00:00') + timedelta(hours=hour):%F %H:%M}")
                for hour in range(100)
            )
        )
        ledger.project(date(2026, 11, 19), DAY)
        bills[width] = ledger.total(date(2026, 11, 19), DAY)
        ledger.close()
    assert bills[1] == bills[4]
    assert bills[1].events == 100


def test_pending_is_counted_until_its_cost_is_known(ledger: Ledger) -> None:
    begun = pending(occurred_at=utc("2026-11-24 12:00"))
    ledger.book(begun)
    ledger.project()
    assert [row.amounts.pending for row in ledger.rows()] == [1]
    ledger.book(settled(occurred_at=utc("2026-11-24 12:00")))
    ledger.project()
    assert [(row.amounts.pending, row.amounts.events) for row in ledger.rows()] == [(0, 1)]
