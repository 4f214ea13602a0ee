"""The cache of reports: what was read stays until a newer run, and nothing grows without bound."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from types import SimpleNamespace
from typing import cast

from scheduler.dashboard import report_cache
from scheduler.dashboard.report_cache import ReportCache
from shared.core.amounts import Amounts
from shared.summary_db.database import SummaryDatabase
from shared.summary_db.reports import Grouping, UsageFilter, UsageLine
from tests.support.builders import NOON
from tests.support.spools import SetClock

TODAY = NOON.date()
MONTH = UsageFilter(start=TODAY.replace(day=1), end=TODAY)


@dataclass
class CountedReports:
    """One event a day and model; it keeps what was asked for, and runs of days."""

    models: int = 1
    runs: dict[date, int] = field(default_factory=dict)
    asked: list[UsageFilter] = field(default_factory=list)

    def last_id(self, start: date, end: date) -> int:
        return max((run for day, run in self.runs.items() if start <= day <= end), default=0)

    def usage(self, wanted: UsageFilter, group_by: Sequence[Grouping]) -> list[UsageLine]:
        self.asked.append(wanted)
        amounts = Amounts(events=(wanted.end - wanted.start).days + 1)
        if not group_by:
            return [UsageLine(group={}, amounts=amounts)]
        return [UsageLine(group={"model": f"m-{n}"}, amounts=amounts) for n in range(self.models)]


def cache_over(reports: CountedReports) -> ReportCache:
    summaries = SimpleNamespace(runs=reports, reports=reports)
    return ReportCache(cast(SummaryDatabase, summaries), SetClock())


def test_what_was_read_is_not_read_again() -> None:
    reports = CountedReports()
    cache = cache_over(reports)
    wanted = UsageFilter(start=date(2026, 9, 10), end=TODAY)
    first = cache.usage(wanted, ("model",))
    count = len(reports.asked)
    assert cache.usage(wanted, ("model",)) == first
    assert len(reports.asked) == count
    assert first[0].amounts.events == (TODAY - wanted.start).days + 1


def test_a_run_of_today_lets_only_the_last_days_be_read_again() -> None:
    reports = CountedReports()
    cache = cache_over(reports)
    cache.total(MONTH)
    reports.asked.clear()
    reports.runs[TODAY] = 7
    assert cache.total(MONTH).events == TODAY.day
    assert [asked.start for asked in reports.asked] == [TODAY - timedelta(days=2)]


def test_months_are_shared_by_spans_that_hold_them() -> None:
    reports = CountedReports()
    cache = cache_over(reports)
    cache.total(UsageFilter(start=date(2026, 1, 1), end=TODAY))
    reports.asked.clear()
    cache.total(MONTH)
    assert reports.asked == []


def test_an_answer_of_too_many_lines_is_not_kept() -> None:
    reports = CountedReports(models=report_cache._LINES_OF_ONE + 1)
    cache = cache_over(reports)
    cache.usage(MONTH, ("model",))
    count = len(reports.asked)
    cache.usage(MONTH, ("model",))
    assert len(reports.asked) == 2 * count


def test_the_oldest_answers_go_first() -> None:
    reports = CountedReports(models=report_cache._LINES_OF_ONE)
    cache = cache_over(reports)
    days = [TODAY - timedelta(days=10 + back) for back in range(12)]
    for day in days:
        cache.usage(UsageFilter(start=day, end=day), ("model",))
    reports.asked.clear()
    for day in reversed(days):
        cache.usage(UsageFilter(start=day, end=day), ("model",))
    kept = report_cache._LINES_KEPT // report_cache._LINES_OF_ONE
    assert [asked.start for asked in reports.asked] == days[: len(days) - kept][::-1]
