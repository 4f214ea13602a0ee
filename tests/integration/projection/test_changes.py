"""What is projected again, what is refused, and what goes into the books."""

import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from shared.core.days import ZoneDay
from shared.core.event import UsageEvent
from shared.core.rows import UserRow
from shared.errors import ConfigError, Misconfigured, ProjectionError, Unavailable, WouldShrink
from shared.event_store.port import Window
from shared.projection.audit import WRONG_MARKUP
from shared.projection.run_report import RunReport
from shared.summary_db.reports import UsageFilter
from tests.conftest import ROOT
from tests.support.builders import ALICE, BOB, unmetered
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
YESTERDAY = DAY - timedelta(days=1)
KILLED_WITH_THE_NEW_ROWS_WRITTEN = """
import os, signal, sys
from pathlib import Path
from shared.summary_db import summary_days
from tests.support.ledger import Ledger

summary_days.remove_invalidations = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Ledger(Path(sys.argv[1])).projection.refresh(2)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()


def days_of(report: RunReport) -> list[str]:
    return [str(outcome.day) for outcome in report.outcomes]


def test_a_refresh_projects_the_days_whose_events_changed_and_then_rests(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    assert days_of(ledger.refresh()) == [f"{DAY} in {WARSAW}"]
    assert days_of(ledger.refresh()) == []
    ledger.book(generation(2, "2026-11-23 12:00"))
    assert days_of(ledger.refresh()) == [f"{YESTERDAY} in {WARSAW}"]
    assert ledger.billed(YESTERDAY) == ledger.billed(DAY) == {"unassigned": 13 * MILLION}


def test_a_change_near_midnight_projects_both_days(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-23 22:50"))
    both = [f"{YESTERDAY} in {WARSAW}", f"{DAY} in {WARSAW}"]
    assert days_of(ledger.refresh()) == both
    assert days_of(ledger.refresh()) == []


def test_a_cost_that_becomes_known_is_a_change_although_the_count_stays(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00", cost_usd=None, cost_source="none"))
    ledger.refresh()
    ledger.book(generation(1, "2026-11-24 12:00"))
    assert days_of(ledger.refresh()) == [f"{DAY} in {WARSAW}"]
    assert ledger.billed() == {"unassigned": 13 * MILLION}


def test_an_unmetered_row_that_arrives_alone_is_a_change_of_its_day(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    ledger.refresh()
    ledger.book(unmetered(occurred_at=utc("2026-11-24 12:00:02")))
    ledger.book(unmetered(request_id="task:2", occurred_at=utc("2026-11-23 03:00")))
    assert days_of(ledger.refresh()) == [f"{YESTERDAY} in {WARSAW}", f"{DAY} in {WARSAW}"]
    assert days_of(ledger.refresh()) == []
    assert ledger.projection.verify(YESTERDAY, DAY) == []
    [tasks] = ledger.summaries.reports.unmetered(UsageFilter(start=YESTERDAY, end=DAY), ())
    assert tasks.generations == 2


def test_a_change_older_than_the_span_waits_for_a_longer_look_back(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-10-10 12:00"))
    assert days_of(ledger.refresh(2)) == []
    assert days_of(ledger.refresh(60)) == [f"2026-10-10 in {WARSAW}"]


def test_projecting_one_day_by_hand_leaves_the_others_to_the_refresh(ledger: Ledger) -> None:
    ledger.summaries.organizations.add(organization("edo", time_zone=TOKYO))
    ledger.book(generation(1, "2026-11-24 12:00"), generation(2, "2026-11-24 22:30"))
    ledger.project(DAY)
    left = days_of(ledger.refresh())
    # What lies within an hour of the changed quarters and was not projected just now.
    assert left == [f"{DAY + timedelta(days=1)} in {zone}" for zone in (TOKYO, WARSAW)]


def test_a_late_event_of_a_final_day_is_a_correction_with_old_and_new(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    ledger.clock.time = utc("2026-11-27 13:00")
    assert ledger.refresh(5).corrections == 0
    ledger.book(generation(2, "2026-11-24 12:30"))
    assert ledger.refresh(5).corrections == 1
    [record] = ledger.summaries.runs.corrections()
    old, new = record.correction.old, record.correction.new
    assert old is not None and new is not None
    assert (old.events, new.events) == (1, 2)
    assert (old.billed_pico_usd, new.billed_pico_usd) == (13 * MILLION, 26 * MILLION)
    assert (record.correction.why, record.recorded_at) == ("events changed", ledger.clock.time)
    assert record.run_id == ledger.summaries.runs.newest(1)[0].run_id


def test_a_day_is_final_only_after_a_projection_later_than_48_hours(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    ledger.clock.time = utc("2026-11-26 22:59")
    ledger.refresh(5)
    ledger.clock.time = utc("2026-11-27 13:00")
    ledger.book(generation(2, "2026-11-24 12:30"))
    assert ledger.refresh(5).corrections == 0
    ledger.book(generation(3, "2026-11-24 12:45"))
    assert ledger.refresh(5).corrections == 1


def test_a_billed_amount_that_somebody_edited_is_corrected_and_recorded(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    ledger.project()
    edit(ledger, "UPDATE daily_usage SET billed_pico_usd = 1")
    [difference] = ledger.projection.verify(DAY, DAY)
    assert (difference.what, difference.stored, difference.computed) == (
        "billed_pico_usd",
        "1",
        str(13 * MILLION),
    )
    assert ledger.project().corrections == 1
    [record] = ledger.summaries.runs.corrections()
    assert record.correction.why.startswith(WRONG_MARKUP)
    assert ledger.projection.verify(DAY, DAY) == []


def test_verify_finds_rows_that_are_missing_and_rows_that_should_not_be(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    ledger.project()
    edit(ledger, "UPDATE daily_usage SET external_user = 'mallory'")
    subjects = {each.subject.split(" / ")[0] for each in ledger.projection.verify(DAY, DAY)}
    assert subjects == {ALICE, "mallory"}


def test_an_emptied_store_does_not_empty_the_summaries(ledger: Ledger) -> None:
    imported = generation(1, "2026-11-24 12:00", source="import:csv-1")
    ledger.book(imported, generation(2, "2026-11-24 12:01"))
    ledger.project()
    before = ledger.rows()
    ledger.store.delete_import("csv-1")
    for report in (ledger.projection.project_days(DAY, DAY), ledger.projection.refresh(2)):
        [failure] = report.failures
        assert isinstance(failure.error, WouldShrink)
    assert ledger.rows() == before
    run = ledger.summaries.runs.newest(1)[0]
    assert (run.success, run.attempts) == (False, 2)
    assert "2 events and now shows 1" in str(run.error)


def test_fewer_events_are_taken_over_when_a_person_says_why(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00", source="import:csv-1"))
    ledger.project()
    ledger.clock.time = utc("2026-11-27 13:00")
    ledger.project()
    ledger.store.delete_import("csv-1")
    report = ledger.project(allow_shrink="rollback of csv-1")
    assert (report.rows_written, report.corrections, ledger.rows()) == (0, 1, [])
    assert ledger.summaries.runs.newest(1)[0].allow_shrink == "rollback of csv-1"
    assert "rollback of csv-1" in ledger.summaries.runs.corrections()[0].correction.why
    assert days_of(ledger.refresh(5)) == []


def test_an_answer_of_fewer_events_than_were_just_counted_is_refused(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    whole = ledger.store

    class Forgetful(BrokenStore):
        def usage(self, _window: object) -> list[object]:
            return []

    ledger.store = Forgetful(whole, "", Unavailable("never"))
    [failure] = ledger.projection.project_days(DAY, DAY).failures
    assert isinstance(failure.error, WouldShrink)
    ledger.store = whole
    assert days_of(ledger.refresh()) == [f"{DAY} in {WARSAW}"]


@pytest.mark.parametrize("question", ["fingerprints", "repeated", "usage", "unmetered"])
@pytest.mark.parametrize("error", [Unavailable("down"), Misconfigured("wrong token")])
def test_a_failing_query_leaves_the_summary_and_is_recorded(
    ledger: Ledger, question: str, error: Unavailable | Misconfigured
) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    ledger.project()
    before = ledger.rows()
    whole, ledger.store = ledger.store, BrokenStore(ledger.store, question, error)
    report = ledger.projection.project_days(DAY, DAY)
    assert [outcome.error for outcome in report.failures] == [error]
    assert ledger.rows() == before
    run = ledger.summaries.runs.newest(1)[0]
    assert (run.success, run.error) == (False, f"{type(error).__name__}: {error}")
    ledger.store = whole


def test_a_day_that_failed_is_projected_by_the_next_refresh(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    whole = ledger.store
    ledger.store = BrokenStore(whole, "usage", Unavailable("down"))
    assert len(ledger.projection.refresh(2).failures) == 1
    ledger.store = whole
    assert days_of(ledger.refresh()) == [f"{DAY} in {WARSAW}"]
    assert ledger.billed() == {"unassigned": 13 * MILLION}


def test_one_failing_day_does_not_stop_the_others(ledger: Ledger) -> None:
    ledger.book(
        generation(1, "2026-11-23 12:00", cost_usd=Decimal(9_000_000)),
        generation(2, "2026-11-23 12:00", cost_usd=Decimal(9_000_000)),
        generation(3, "2026-11-24 12:00"),
    )
    report = ledger.projection.project_days(YESTERDAY, DAY)
    assert [outcome.day for outcome in report.failures] == [ZoneDay(YESTERDAY, WARSAW)]
    assert ledger.billed(DAY) == {"unassigned": 13 * MILLION}


def test_the_same_failure_is_said_once_in_the_log(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    whole, ledger.store = (
        ledger.store,
        BrokenStore(ledger.store, "fingerprints", Unavailable("down")),
    )
    for _ in range(3):
        ledger.projection.refresh(2)
    ledger.store = whole
    assert [record.getMessage() for record in caplog.records] == [
        "projection of any day failed: Unavailable: down"
    ]
    assert ledger.summaries.runs.newest(1)[0].attempts == 3


def test_a_successful_run_says_what_it_did(ledger: Ledger) -> None:
    ledger.summaries.organizations.add(organization("acme"))
    ledger.book(generation(1, "2026-11-24 12:00"))
    ledger.project()
    run = ledger.summaries.runs.newest(1)[0]
    assert (run.day, run.success, run.was_resolved) == (ZoneDay(DAY, WARSAW), True, False)
    assert (run.organizations, run.events_read, run.rows_written, run.corrections) == (2, 1, 1, 0)
    assert (run.started_at, run.ended_at) == (ledger.clock.time, ledger.clock.time)


def test_a_day_read_before_a_change_of_rates_is_not_stored(ledger: Ledger) -> None:
    ledger.summaries.organizations.add(organization("acme"))
    ledger.book(generation(1, "2026-11-24 12:00", client_org_id="acme"))
    whole = ledger.store

    class Interrupted(BrokenStore):
        def repeated(self, window: Window) -> Collection[UsageEvent]:
            ledger.summaries.organizations.set_rate("acme", DAY, 2_000_000)
            return list(whole.repeated(window))

    ledger.store = Interrupted(whole, "", Unavailable("never"))
    [failure] = ledger.projection.project_days(DAY, DAY).failures
    assert isinstance(failure.error, ProjectionError)
    assert ledger.rows() == []
    ledger.store = whole
    ledger.refresh()
    assert ledger.billed() == {"acme": 20 * MILLION}


def test_a_process_killed_in_the_middle_leaves_the_old_day_or_the_new_one(ledger: Ledger) -> None:
    ledger.book(generation(1, "2026-11-24 12:00"))
    ledger.refresh()
    before = ledger.rows()
    ledger.book(generation(2, "2026-11-24 12:30"))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WITH_THE_NEW_ROWS_WRITTEN, str(ledger.folder)],
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert ledger.rows() == before
    assert days_of(ledger.refresh()) == [f"{DAY} in {WARSAW}"]
    assert ledger.billed() == {"unassigned": 26 * MILLION}


def test_a_refresh_keeps_the_names_of_users(ledger: Ledger) -> None:
    seen = UserRow(user_id=ALICE, occurred_at=utc("2026-11-24 12:00"), name="Alice")
    ledger.book(seen, UserRow(user_id=BOB, occurred_at=seen.occurred_at, email="bob@example.org"))
    ledger.refresh()
    assert ledger.summaries.users.names() == {ALICE: "Alice", BOB: "bob@example.org"}


def test_a_span_that_ends_before_it_begins_is_refused(ledger: Ledger) -> None:
    [failure] = ledger.projection.project_days(DAY, YESTERDAY).failures
    assert isinstance(failure.error, ConfigError)


def edit(ledger: Ledger, statement: str) -> None:
    engine = create_engine(ledger.url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
