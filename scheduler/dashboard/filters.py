"""The filter of a page: days and sides of usage, as its address holds them."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Annotated, Any, get_args

from fastapi import Depends, Query
from pydantic import BeforeValidator

from scheduler.dashboard.spans import Span, month_of, month_so_far
from scheduler.process.running import RunningSidecar
from scheduler.services.inputs import Day, LabelText, check_span
from shared.core.days import ONE_DAY, local_day
from shared.summary_db.reports import Grouping, UsageFilter

# A form sends every field it has; an empty one counts as left out.
_OR_NOTHING = BeforeValidator(lambda value: value or None)
LabelField = Annotated[LabelText | None, _OR_NOTHING, Query()]
DayField = Annotated[Day | None, _OR_NOTHING, Query()]

SIDES: dict[Grouping, str] = {
    "organization_id": "organization",
    "external_user": "user",
    "model": "model",
    "provider": "provider",
    "task": "task",
    "source": "source",
}
SPANS: dict[Grouping, str] = {"day": "day", "week": "week", "month": "month"}
# From the client down to the single answer.
_DRILL: tuple[Grouping, ...] = ("organization_id", "external_user", "model", "day")


@dataclass(frozen=True)
class PageFilter:
    """Local days, both ends included, and any sides of usage; no day means this month so far."""

    start: DayField = None
    end: DayField = None
    organization_id: LabelField = None
    external_user: LabelField = None
    model: LabelField = None
    provider: LabelField = None
    task: LabelField = None
    source: LabelField = None

    def within(self, today: date) -> "PageFilter":
        """Fill in the days that are missing. Raises Refused for an empty or too long span."""
        month = month_so_far(today)
        end = self.end or max(month.end, self.start or month.end)
        start = self.start or min(month.start, end.replace(day=1))
        check_span(start, end)
        return replace(self, start=start, end=end)

    def filter(self) -> UsageFilter:
        """Return the filter of the reports; both days must be set."""
        return UsageFilter(**vars(self))

    def query(self) -> dict[str, Any]:
        """Return the query of a link that shows the same."""
        return {
            each.name: str(getattr(self, each.name))
            for each in fields(self)
            if getattr(self, each.name) is not None
        }

    def sides(self) -> Iterator[tuple[Grouping, str]]:
        for side in SIDES:
            value = getattr(self, side)
            if value is not None:
                yield side, value

    def next_grouping(self) -> Grouping:
        """Return the next step from the client down to the day."""
        chosen = dict(self.sides())
        return next((step for step in _DRILL if step not in chosen), "day")


PageFilterDep = Annotated[PageFilter, Depends()]


def parse_grouping(name: str | None) -> Grouping | None:
    """Return the grouping of a name, None for an unknown one."""
    return next((each for each in get_args(Grouping) if each == name), None)


def drill_query(query: dict[str, Any], by: Grouping, value: str) -> dict[str, Any]:
    """Return the query that shows what one line adds up."""
    if by in SIDES:
        return {**query, by: value}
    day = date.fromisoformat(value)
    end = {"day": day, "week": day + 6 * ONE_DAY, "month": month_of(day).end}[by]
    first, last = date.fromisoformat(query["start"]), date.fromisoformat(query["end"])
    return {**query, "start": str(max(day, first)), "end": str(min(end, last))}


def filter_values(shown: PageFilter, today: date, sidecar: RunningSidecar) -> dict[str, Any]:
    """Return the values that `filters.html` needs."""
    return {
        "shown": shown,
        "query_now": shown.query(),
        "side_labels": SIDES,
        "spans": _quick_spans(today),
        "names": sidecar.summaries.users.names(),
    }


def today_of(sidecar: RunningSidecar) -> date:
    return local_day(sidecar.clock.now(), sidecar.settings.usage_timezone)


def _quick_spans(today: date) -> list[tuple[str, Span]]:
    return [
        ("Today", Span(today, today)),
        ("Last 7 days", Span(today - 6 * ONE_DAY, today)),
        ("This month", month_so_far(today)),
        ("Last month", month_of(today.replace(day=1) - ONE_DAY)),
        ("This year", Span(today.replace(month=1, day=1), today)),
    ]
