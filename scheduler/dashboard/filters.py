"""What a page shows: days and sides of usage, as they stand in its address."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Annotated, Any, get_args

from fastapi import Query
from pydantic import BeforeValidator

from scheduler.dashboard.spans import Span, month_of, month_so_far
from scheduler.process.running import RunningSidecar
from scheduler.services.inputs import Day, LabelText, check_span
from shared.core.days import ONE_DAY, local_day
from shared.summary_db.port import Grouping, UsageFilter

# A form sends every field it has; an empty one says nothing.
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
        """Return it with both days. Raises ApiError for a span that cannot be used."""
        month = month_so_far(today)
        end = self.end or max(month.end, self.start or month.end)
        start = self.start or min(month.start, end.replace(day=1))
        check_span(start, end)
        return replace(self, start=start, end=end)

    def filter(self) -> UsageFilter:
        """Return what the books understand; both days must be there."""
        return UsageFilter(**vars(self))

    def query(self) -> dict[str, Any]:
        """Return what a link must carry to show the same."""
        return {
            each.name: str(getattr(self, each.name))
            for each in fields(self)
            if getattr(self, each.name) is not None
        }

    def sides(self) -> Iterator[tuple[Grouping, str]]:
        """Return the sides that are chosen, with their values."""
        for side in SIDES:
            value = getattr(self, side)
            if value is not None:
                yield side, value

    def next_grouping(self) -> Grouping:
        """Return the next step from the client down to the day."""
        chosen = dict(self.sides())
        return next((step for step in _DRILL if step not in chosen), "day")


def parse_grouping(name: str | None) -> Grouping | None:
    """Return a grouping by its name, None for one that is not known."""
    return next((each for each in get_args(Grouping) if each == name), None)


def drill_query(query: dict[str, Any], by: Grouping, value: str) -> dict[str, Any]:
    """Return the query of what lies behind one line of a page grouped by something."""
    if by in SIDES:
        return {**query, by: value}
    day = date.fromisoformat(value)
    end = {"day": day, "week": day + 6 * ONE_DAY, "month": month_of(day).end}[by]
    first, last = date.fromisoformat(query["start"]), date.fromisoformat(query["end"])
    return {**query, "start": str(max(day, first)), "end": str(min(end, last))}


def filter_values(shown: PageFilter, today: date, sidecar: RunningSidecar) -> dict[str, Any]:
    """Return what `filters.html` shows: what is chosen, and what else can be."""
    return {
        "shown": shown,
        "query_now": shown.query(),
        "side_labels": SIDES,
        "spans": _quick_spans(today),
        "names": sidecar.summaries.user_names(),
    }


def today_of(sidecar: RunningSidecar) -> date:
    """Return today in the deployment's zone."""
    return local_day(sidecar.clock.now(), sidecar.settings.usage_timezone)


def _quick_spans(today: date) -> list[tuple[str, Span]]:
    """Return the spans that are asked for most."""
    return [
        ("Today", Span(today, today)),
        ("Last 7 days", Span(today - 6 * ONE_DAY, today)),
        ("This month", month_so_far(today)),
        ("Last month", month_of(today.replace(day=1) - ONE_DAY)),
        ("This year", Span(today.replace(month=1, day=1), today)),
    ]
