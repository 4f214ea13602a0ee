"""Figures for the pages: the API's own queries, asked again only for days that were projected."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from threading import Lock

from shared.domain.days import ONE_DAY
from shared.domain.exchange import ExchangeRates
from shared.domain.summary import AMOUNTS, Amounts, DayFinding
from shared.ports import Clock
from shared.ports_admin import (
    AdminBooks,
    Grouping,
    Page,
    UnmeteredLine,
    UsageFilter,
    UsageLine,
)

# Days that still change are asked for apart, so that the others stay known.
_STILL_CHANGING = timedelta(days=2)
# A longer span, such as from ever, is one piece.
_CUT_AT_MONTHS = timedelta(days=800)
_LINES_KEPT = 60_000
_LINES_OF_ONE = 6_000

_OF_DAYS = ("week", "month")

_Question = tuple[UsageFilter, tuple[Grouping, ...]]


@dataclass(frozen=True)
class _Answer:
    """Figures of a span of days, and the run of those days that they are of."""

    run_id: int
    lines: list[UsageLine]


class Figures:
    """Usage by any side; a span is cut at months and before the days that still change.

    Every write of summaries is a run of its day, so figures are right as long as no newer run of
    their days is on record. Sums of sums are exact: all amounts are integers.
    """

    def __init__(self, books: AdminBooks, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._lock = Lock()
        self._known: OrderedDict[_Question, _Answer] = OrderedDict()
        self._lines = 0

    def usage(
        self, wanted: UsageFilter, group_by: Sequence[Grouping], page: Page | None = None
    ) -> list[UsageLine]:
        """Add up by groups, in their order; without a grouping there is one line."""
        sums: dict[tuple[str, ...], list[int]] = {} if group_by else {(): [0] * len(AMOUNTS)}
        # Weeks and months are added up from days: the database would look at every row's date.
        asked = tuple[Grouping, ...]("day" if name in _OF_DAYS else name for name in group_by)
        for part in self._parts(wanted):
            for line in self._answer(part, asked):
                key = tuple(map(_name_of, group_by, line.group.values()))
                added = sums.setdefault(key, [0] * len(AMOUNTS))
                for place, name in enumerate(AMOUNTS):
                    added[place] += getattr(line.amounts, name)
        lines = [
            UsageLine(
                group=dict(zip(group_by, key, strict=True)),
                amounts=Amounts(**dict(zip(AMOUNTS, sums[key], strict=True))),
            )
            for key in sorted(sums)
        ]
        return lines if page is None else lines[page.offset : page.offset + page.limit]

    def total(self, wanted: UsageFilter) -> Amounts:
        """Add up everything that is wanted."""
        [line] = self.usage(wanted, ())
        return line.amounts

    def unmetered(
        self, wanted: UsageFilter, group_by: Sequence[Grouping], page: Page | None = None
    ) -> list[UnmeteredLine]:
        """Count generations of unknown cost by groups."""
        return self._books.unmetered(wanted, group_by, page)

    def findings(self, wanted: UsageFilter, page: Page) -> list[DayFinding]:
        """Return what a person should know of bills, the newest day first."""
        return self._books.findings(wanted, page)

    def oldest_pending_day(self) -> date | None:
        """Return the first local day with an event whose cost is unknown."""
        return self._books.oldest_pending_day()

    def exchange_rates(self, currency: str) -> ExchangeRates:
        """Return all rates of a currency."""
        return self._books.exchange_rates(currency)

    def _parts(self, wanted: UsageFilter) -> Iterator[UsageFilter]:
        changing = self._clock.now().date() - _STILL_CHANGING
        is_long = wanted.end - wanted.start > _CUT_AT_MONTHS
        start = wanted.start
        while start <= wanted.end:
            end = wanted.end if is_long else min(wanted.end, _month_end(start))
            if start < changing <= end:
                end = changing - ONE_DAY
            yield replace(wanted, start=start, end=end)
            start = end + ONE_DAY

    def _answer(self, wanted: UsageFilter, group_by: tuple[Grouping, ...]) -> list[UsageLine]:
        question = (wanted, group_by)
        # Looked at first: what is projected meanwhile is newer than its number says, never older.
        run_id = self._books.last_run(wanted.start, wanted.end)
        with self._lock:
            known = self._known.get(question)
            if known is not None and known.run_id == run_id:
                self._known.move_to_end(question)
                return known.lines
        lines = self._books.usage(wanted, group_by)
        self._keep(question, _Answer(run_id, lines))
        return lines

    def _keep(self, question: _Question, answer: _Answer) -> None:
        with self._lock:
            self._forget(question)
            if len(answer.lines) > _LINES_OF_ONE:
                return
            self._known[question] = answer
            self._lines += len(answer.lines)
            while self._lines > _LINES_KEPT:
                self._forget(next(iter(self._known)))

    def _forget(self, question: _Question) -> None:
        old = self._known.pop(question, None)
        self._lines -= len(old.lines) if old else 0


def _name_of(grouping: Grouping, value: str) -> str:
    """Name a week by its Monday and a month by its first day, as the database does."""
    if grouping == "week":
        day = date.fromisoformat(value)
        return str(day - day.weekday() * ONE_DAY)
    return f"{value[:8]}01" if grouping == "month" else value


def _month_end(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - ONE_DAY
