"""Cache of usage reports for the pages: a span of days is read again only after a newer run."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from threading import Lock
from typing import Annotated, get_args

from apscheduler.triggers.interval import IntervalTrigger
from fastapi import Depends, Request
from jinja2 import Environment

from scheduler.dashboard.filters import today_of
from scheduler.dashboard.spans import RECENT, month_of
from scheduler.process.jobs import Job
from scheduler.process.running import RunningSidecar
from shared.core.amounts import Amounts
from shared.core.clock import Clock
from shared.core.days import ONE_DAY
from shared.summary_db.database import SummaryDatabase
from shared.summary_db.reports import Grouping, UsageFilter, UsageLine

# Days that still change are read apart, so that the others stay cached.
_STILL_CHANGING = timedelta(days=2)
# A longer span, such as from ever, is read in one piece.
_CUT_AT_MONTHS = timedelta(days=800)
_YEAR = timedelta(days=365)
_ANSWERS_KEPT = 2_000
_LINES_KEPT = 60_000
_LINES_OF_ONE = 6_000

_Question = tuple[UsageFilter, tuple[Grouping, ...]]


class ReportCache:
    """Usage by any grouping; a span is cut at months and before the days that still change.

    Every write of summaries is a run of its day, so lines are right as long as no newer run of
    their days is on record. Raises ProjectionError when the database cannot be used.
    """

    def __init__(self, summaries: SummaryDatabase, clock: Clock) -> None:
        self._summaries = summaries
        self._clock = clock
        self._lock = Lock()
        # With the newest run of their days when they were read.
        self._known: OrderedDict[_Question, tuple[int, list[UsageLine]]] = OrderedDict()

    def usage(self, wanted: UsageFilter, group_by: Sequence[Grouping]) -> list[UsageLine]:
        """Add up by groups, in their order; without a grouping there is one line."""
        grouping = tuple(group_by)
        sums: dict[tuple[str, ...], list[Amounts]] = {}
        for span in self._spans(wanted):
            for line in self._lines(span, grouping):
                sums.setdefault(tuple(line.group.values()), []).append(line.amounts)
        return [
            UsageLine(
                group=dict(zip(grouping, key, strict=True)), amounts=sum(sums[key], Amounts())
            )
            for key in sorted(sums)
        ]

    def total(self, wanted: UsageFilter) -> Amounts:
        [line] = self.usage(wanted, ())
        return line.amounts

    def warm(self, today: date) -> None:
        """Read what pages without a filter show."""
        month = UsageFilter(start=today.replace(day=1), end=today)
        groupings: list[tuple[Grouping, ...]] = [(), *((each,) for each in get_args(Grouping))]
        for grouping in groupings:
            self.usage(month, grouping)
        recent = replace(month, start=today - RECENT)
        self.usage(recent, ("day",))
        self.usage(recent, ("external_user", "organization_id"))
        self.usage(replace(month, start=month_of(today - _YEAR).start), ("month",))

    def _spans(self, wanted: UsageFilter) -> Iterator[UsageFilter]:
        changing = self._clock.now().date() - _STILL_CHANGING
        is_long = wanted.end - wanted.start > _CUT_AT_MONTHS
        start = wanted.start
        while start <= wanted.end:
            end = wanted.end if is_long else min(wanted.end, month_of(start).end)
            if start < changing <= end:
                end = changing - ONE_DAY
            yield replace(wanted, start=start, end=end)
            start = end + ONE_DAY

    def _lines(self, wanted: UsageFilter, grouping: tuple[Grouping, ...]) -> list[UsageLine]:
        # The run is looked up first: what is projected meanwhile is newer than it, never older.
        run_id = self._summaries.runs.last_id(wanted.start, wanted.end)
        question = (wanted, grouping)
        with self._lock:
            known = self._known.get(question)
            if known is not None and known[0] == run_id:
                self._known.move_to_end(question)
                return known[1]
        lines = self._summaries.reports.usage(wanted, grouping)
        if len(lines) <= _LINES_OF_ONE:
            self._keep(question, run_id, lines)
        return lines

    def _keep(self, question: _Question, run_id: int, lines: list[UsageLine]) -> None:
        with self._lock:
            self._known.pop(question, None)
            self._known[question] = (run_id, lines)
            while len(self._known) > _ANSWERS_KEPT or self._count_lines() > _LINES_KEPT:
                self._known.popitem(last=False)

    def _count_lines(self) -> int:
        return sum(len(lines) for _, lines in self._known.values())


def cache_warmer(sidecar: RunningSidecar, cache: ReportCache, templates: Environment) -> Job:
    """Return the job that keeps a first visit quick: reports cached, templates compiled."""

    def warm() -> None:
        for name in templates.list_templates():
            templates.get_template(name)
        cache.warm(today_of(sidecar))

    return Job(
        "pages",
        "add up what pages ask for most",
        warm,
        IntervalTrigger(seconds=sidecar.settings.usage_refresh_seconds),
        at_start=True,
        in_standby=True,
    )


def _cache_of(request: Request) -> ReportCache:
    found = request.app.state.report_cache
    assert isinstance(found, ReportCache)
    return found


ReportCacheDep = Annotated[ReportCache, Depends(_cache_of)]
