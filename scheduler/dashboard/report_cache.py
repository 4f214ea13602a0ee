"""Figures for the pages: the API's own queries, asked again only for days that were projected."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from threading import Lock

from shared.core.clock import Clock
from shared.core.days import ONE_DAY
from shared.projection.summary import AMOUNTS, Amounts, DayFinding
from shared.summary_db.exchange import ExchangeRates
from shared.summary_db.port import (
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

# Without a filter one of these is asked for and added up further: a month is then read three times
# whatever a page shows, and what was read for one page is known to the next.
_BASES: tuple[tuple[Grouping, ...], ...] = (
    ("day",),
    ("organization_id", "external_user"),
    ("model", "task", "source"),
)
# What is told by another side: weeks and months by their days, a provider by the model's name.
_TOLD_BY: Mapping[Grouping, Grouping] = {"week": "day", "month": "day", "provider": "model"}
_MONTHS_LEARNT = 13

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
        asked = _asked(wanted, group_by)
        told_by = [_TOLD_BY.get(name, name) for name in group_by]
        for part in self._parts(wanted):
            for line in self._answer(part, asked):
                key = tuple(map(_name_of, group_by, map(line.group.__getitem__, told_by)))
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

    def learn(self, today: date) -> None:
        """Add up what pages ask for most, the newest month first; what is known is not asked."""
        month = today.replace(day=1)
        for _ in range(_MONTHS_LEARNT):
            wanted = UsageFilter(start=month, end=min(_month_end(month), today))
            for base in _BASES:
                self.usage(wanted, base)
            month = (month - ONE_DAY).replace(day=1)

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


def _asked(wanted: UsageFilter, group_by: Sequence[Grouping]) -> tuple[Grouping, ...]:
    """Return what the database groups by: at least what is wanted, and never weeks or months.

    It would look at every row's date for those.
    """
    needed = {_TOLD_BY.get(name, name) for name in group_by}
    if wanted == UsageFilter(start=wanted.start, end=wanted.end):
        for base in _BASES:
            if needed <= set(base):
                return base
    return tuple(sorted(needed))


def _name_of(grouping: Grouping, value: str) -> str:
    """Name a week by its Monday, a month by its first day, a provider as the database does."""
    if grouping == "week":
        day = date.fromisoformat(value)
        return str(day - day.weekday() * ONE_DAY)
    if grouping == "provider":
        return value.partition("/")[0]
    return f"{value[:8]}01" if grouping == "month" else value


def _month_end(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - ONE_DAY
