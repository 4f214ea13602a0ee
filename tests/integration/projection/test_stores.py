"""Projecting from two stores while the setting goes to and fro, and from one that shows halves."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from shared.core.days import ZoneDay
from shared.errors import Unavailable
from shared.event_store.combined.coverage import StoreCoverage
from shared.event_store.combined.store import CombinedStore
from shared.event_store.port import UsageGroup, Window
from shared.event_store.sqlite.store import EmbeddedStore
from shared.projection.run_report import RunReport
from tests.support.builders import unmetered
from tests.support.ledger import DAY, WARSAW, BrokenStore, Ledger, generation, utc
from tests.support.stores import Leaving

MILLION = 1_000_000  # pico-USD in a microdollar
BILL = 13 * MILLION
ONE_DAY = timedelta(days=1)


class Switching(Ledger):
    """A ledger whose setting decides which of two stores is written to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.embedded: EmbeddedStore = self.store
        self.influx = Leaving(folder / "influx.sqlite3")
        self.coverage = StoreCoverage(folder / "events.sqlite3")
        self.turn(on=True)

    def turn(self, *, on: bool) -> None:
        """Restart the sidecar with the flag on or off."""
        stores = [self.influx, self.embedded]
        self.store = CombinedStore(stores if on else stores[::-1], self.coverage, self.clock)

    def come_back(self) -> None:
        """Let the store answer again, and some time pass."""
        self.influx.is_away = False
        self.clock.time += timedelta(seconds=5)

    def close(self) -> None:
        for part in (self.influx, self.coverage, self.embedded, self.summaries):
            part.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Switching]:
    ledger = Switching(tmp_path)
    yield ledger
    ledger.close()


def failed(report: RunReport) -> list[str]:
    return [str(outcome.day) for outcome in report.failures]


def of(day: date) -> str:
    return f"{day} in {WARSAW}"


def test_on_off_and_on_again_loses_and_doubles_nothing(ledger: Switching) -> None:
    days = [DAY - ONE_DAY, DAY]
    number = 0
    for day in days:
        for hour in range(8, 17):
            ledger.turn(on=hour % 3 != 1)
            late = generation(number - 1, f"{day} {hour - 1:02d}:40") if hour > 8 else None
            number += 1
            ledger.book(generation(number, f"{day} {hour:02d}:40"), *([late] if late else []))
            ledger.refresh(5)
        # Delivered once more after the switch, and seen by somebody else too.
        ledger.book(*(generation(number, f"{day} 16:40"),) * 2)
        again = generation(number, f"{day} 16:40")
        ledger.book(again.model_copy(update={"source": "webhook", "cost_source": "webhook"}))
        ledger.refresh(5)
    held = [len(list(one.events(Window(utc("2026-11-23 00:00"), utc("2026-11-25 00:00"))))) for one
            in (ledger.influx, ledger.embedded)]  # fmt: skip
    assert min(held) > 4
    bills = {
        event.request_id
        for one in (ledger.influx, ledger.embedded)
        for event in one.events(Window(utc("2026-11-23 00:00"), utc("2026-11-25 00:00")))
    }
    billed = sum(ledger.billed(day)["unassigned"] for day in days)
    assert billed == len(bills) * BILL
    assert ledger.projection.verify(*days) == []
    assert ledger.refresh(5).outcomes == []


def test_a_store_that_is_away_fails_its_days_and_no_others(ledger: Switching) -> None:
    start = DAY - 9 * ONE_DAY
    for step in range(10):
        ledger.turn(on=step in (2, 3, 6))
        ledger.book(generation(step, f"{start + step * ONE_DAY} 12:00"))
        ledger.refresh(12)
    ledger.turn(on=False)
    ledger.influx.is_away = True
    ledger.book(*(generation(100 + n, f"{start + n * ONE_DAY} 13:00") for n in range(10)))
    report = ledger.projection.refresh(12)
    lost = {start + step * ONE_DAY for step in (2, 3, 6)}
    assert failed(report) == [of(day) for day in sorted(lost)]
    for step in range(10):
        day = start + step * ONE_DAY
        assert ledger.billed(day) == {"unassigned": BILL if day in lost else 2 * BILL}, day
    runs = [run for run in ledger.summaries.runs.newest() if not run.success]
    assert {run.day.local_date for run in runs if run.day} == lost
    assert all("influxdb is away" in str(run.error) for run in runs)
    ledger.come_back()
    ledger.refresh(12)
    assert ledger.projection.verify(start, DAY) == []
    assert ledger.total(start, DAY).events == 20


def test_days_named_by_hand_fail_one_by_one_too(ledger: Switching) -> None:
    yesterday = DAY - ONE_DAY
    ledger.book(generation(1, f"{yesterday} 12:00"))
    ledger.refresh(5)
    ledger.turn(on=False)
    ledger.book(generation(2, f"{DAY} 12:00"))
    ledger.influx.is_away = True
    report = ledger.projection.project_days(yesterday, DAY)
    assert (len(report.outcomes), failed(report)) == (2, [of(yesterday)])
    assert ledger.billed(DAY) == {"unassigned": BILL}


def test_a_marked_day_that_cannot_be_read_goes_on_waiting(ledger: Switching) -> None:
    old = DAY - 20 * ONE_DAY
    ledger.book(generation(1, f"{old} 12:00"))
    ledger.refresh(30)
    ledger.turn(on=False)
    ledger.book(generation(2, f"{DAY} 12:00"))
    ledger.summaries.organizations.set_rate("unassigned", old, 2_000_000)
    ledger.influx.is_away = True
    report = ledger.projection.refresh(2)
    assert of(old) in failed(report)
    assert ledger.billed(DAY) == {"unassigned": 20 * MILLION}
    assert ledger.billed(old) == {"unassigned": BILL}
    ledger.come_back()
    ledger.refresh(2)
    assert ledger.billed(old) == {"unassigned": 20 * MILLION}


def test_a_store_that_does_not_answer_is_not_asked_for_every_day(
    ledger: Switching, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.book(generation(1, f"{DAY} 12:00"), generation(2, f"{DAY - 50 * ONE_DAY} 12:00"))
    ledger.refresh(60)
    ledger.influx.is_away, ledger.influx.asked = True, 0
    report = ledger.projection.refresh(3660)
    newer = [of(DAY + step * ONE_DAY) for step in (0, 1, 2)]
    assert failed(report) == [of(DAY - 50 * ONE_DAY), *newer]
    assert ledger.influx.asked == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"projection of {of(DAY - 50 * ONE_DAY)} and 3 other days failed: "
        "Unavailable: influxdb is away"
    ]


class Torn(BrokenStore):
    """A store of which a point shows some of its fields only, until it is at rest."""

    shows_batches_whole = False
    is_at_rest = False

    def usage(self, window: Window) -> list[UsageGroup]:
        whole: list[UsageGroup] = self._store.usage(window)
        if self.is_at_rest:
            return whole
        return [replace(group, amounts=replace(group.amounts, input_tokens=0)) for group in whole]


def test_a_day_read_while_it_is_written_is_read_once_more(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.book(generation(1, f"{DAY} 12:00"), unmetered(occurred_at=utc(f"{DAY} 12:00")))
    whole = ledger.store
    ledger.store = torn = Torn(whole, "", Unavailable("never"))
    assert [outcome.day for outcome in ledger.refresh().outcomes] == [ZoneDay(DAY, WARSAW)]
    assert [row.amounts.input_tokens for row in ledger.rows()] == [0]
    torn.is_at_rest = True
    assert [outcome.day for outcome in ledger.refresh().outcomes] == [ZoneDay(DAY, WARSAW)]
    assert [row.amounts.input_tokens for row in ledger.rows()] == [9]
    assert ledger.refresh().outcomes == []
    ledger.store = whole
    ledger.close()


def test_a_neighbour_hour_that_was_being_written_counts_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.store = Torn(ledger.store, "", Unavailable("never"))
    ledger.book(generation(1, f"{DAY} 22:50"))  # ten minutes before midnight in Warsaw
    both = [of(DAY), of(DAY + ONE_DAY)]
    assert [str(outcome.day) for outcome in ledger.refresh().outcomes] == both
    assert [str(outcome.day) for outcome in ledger.refresh().outcomes] == both
    assert ledger.refresh().outcomes == []
    ledger.close()
