"""Usage reports: the summaries added up by any column and any span of days, without overflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Date,
    Select,
    Table,
    case,
    cast,
    func,
    select,
    text,
)

from shared.core.amounts import AMOUNTS, Amounts
from shared.errors import ConfigError
from shared.projection.summary import DayFinding
from shared.summary_db.engine import Transactions
from shared.summary_db.schema import daily_usage, findings, unmetered_daily

# What figures can be grouped by: sides of the fact table, the author of the model, spans of days.
Grouping = Literal[
    "organization_id",
    "external_user",
    "model",
    "provider",
    "task",
    "source",
    "day",
    "week",
    "month",
]


@dataclass(frozen=True, kw_only=True)
class UsageFilter:
    """Which usage is meant: local days, both ends included, and any sides of the fact table."""

    start: date
    end: date
    organization_id: str | None = None
    external_user: str | None = None
    model: str | None = None
    provider: str | None = None
    task: str | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """A piece of a list: at most `limit` lines after the first `offset`."""

    limit: int
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class UsageLine:
    """A figure: what it was grouped by, and all its amounts. Sums are exact, however large.

    A week is named by its Monday, a month by its first day.
    """

    group: Mapping[str, str]
    amounts: Amounts


@dataclass(frozen=True, kw_only=True)
class UnmeteredLine:
    """How many generations of a group have a cost that nobody knows."""

    group: Mapping[str, str]
    generations: int


# SQLite raises an error when a sum leaves 64 bits, so dollars and picodollars are added apart.
_WHOLE = 10**12
_SIDES = ("organization_id", "external_user", "model", "task", "source")


class UsageReports:
    """Sums over the summaries. Raises ProjectionError when the database cannot be used."""

    def __init__(self, db: Transactions) -> None:
        self._db = db

    def usage(
        self, wanted: UsageFilter, group_by: Sequence[Grouping], page: Page | None = None
    ) -> list[UsageLine]:
        """Add up by groups, in their order; without a grouping there is one line."""
        with self._db.reading() as connection:
            groups = _groups(connection, daily_usage, group_by)
            sums = [half for name in AMOUNTS for half in _halves(daily_usage.c[name])]
            query = _paged(_grouped(daily_usage, wanted, groups, sums), groups, page)
            found = connection.execute(query).all()
        return [
            UsageLine(
                group=_named(group_by, row),
                amounts=Amounts(**dict(zip(AMOUNTS, _joined(row[len(groups) :]), strict=True))),
            )
            for row in found
        ]

    def unmetered(
        self, wanted: UsageFilter, group_by: Sequence[Grouping], page: Page | None = None
    ) -> list[UnmeteredLine]:
        """Count generations of unknown cost by groups, in their order; they have no source."""
        if "source" in group_by or wanted.source is not None:
            raise ConfigError("source", "source", "unmetered generations have no source")
        with self._db.reading() as connection:
            groups = _groups(connection, unmetered_daily, group_by)
            sums = _halves(unmetered_daily.c.generations)
            query = _paged(_grouped(unmetered_daily, wanted, groups, sums), groups, page)
            found = connection.execute(query).all()
        return [
            UnmeteredLine(group=_named(group_by, row), generations=_joined(row[len(groups) :])[0])
            for row in found
        ]

    def findings(self, wanted: UsageFilter, page: Page) -> list[DayFinding]:
        """Return findings, the newest day first."""
        columns = findings.c
        order = (columns.local_date.desc(), columns.request_id, columns.kind)
        query = select(findings).where(*_conditions(findings, wanted))
        query = query.order_by(*order, columns.organization_id)
        with self._db.reading() as connection:
            found = connection.execute(query.limit(page.limit).offset(page.offset))
            return [DayFinding(**row._mapping) for row in found]

    def oldest_pending_day(self) -> date | None:
        """Return the first local day with an event whose cost is unknown."""
        # Written out, not bound: SQLite looks into the index of pending rows for these words alone.
        pending = select(func.min(daily_usage.c.local_date)).where(text("pending > 0"))
        with self._db.reading() as connection:
            found: date | None = connection.scalar(pending)
            return found

    def mixed_days(self, start: date, end: date) -> list[date]:
        """Return the days on which whole answers and generations may both have been billed.

        A webhook, a gateway or an import sees the generations of the same traffic without their
        chat, so nothing supersedes the Pipelines turns: such a day calls for USAGE_TURNS=observe.
        """
        source = daily_usage.c.source
        sees_generations = source.in_(("webhook", "gateway")) | source.like("import:%")
        days = select(daily_usage.c.local_date).group_by(
            daily_usage.c.organization_id, daily_usage.c.local_date
        )
        mixed = days.where(daily_usage.c.local_date.between(start, end)).having(
            func.count(case((source == "pipeline", 1))) > 0,
            func.count(case((sees_generations, 1))) > 0,
        )
        with self._db.reading() as connection:
            return sorted(set(connection.scalars(mixed)))


def _groups(
    connection: Connection, table: Table, group_by: Sequence[Grouping]
) -> list[ColumnElement[Any]]:
    is_sqlite = connection.dialect.name == "sqlite"
    return [_group(table, name, is_sqlite).label(name) for name in group_by]


def _group(table: Table, name: Grouping, is_sqlite: bool) -> ColumnElement[Any]:
    day: Column[Any] = table.c.local_date
    if name in _SIDES:
        return table.c[name]
    if name == "provider":
        return _provider(table, is_sqlite)
    if name == "day":
        return day
    if is_sqlite:
        steps = ("weekday 0", "-6 days") if name == "week" else ("start of month",)
        return func.date(day, *steps)
    return cast(func.date_trunc(name, day), Date)


def _provider(table: Table, is_sqlite: bool) -> ColumnElement[Any]:
    """Return the part of the model before the slash; a model without one is its own author."""
    model = table.c.model
    if not is_sqlite:
        return func.split_part(model, "/", 1)
    return func.substr(model, 1, func.instr(model + "/", "/") - 1)


def _grouped(
    table: Table,
    wanted: UsageFilter,
    groups: Sequence[ColumnElement[Any]],
    sums: Sequence[ColumnElement[Any]],
) -> Select[Any]:
    query = select(*groups, *sums).where(*_conditions(table, wanted))
    return query.group_by(*groups) if groups else query


def _conditions(table: Table, wanted: UsageFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [table.c.local_date.between(wanted.start, wanted.end)]
    for name in _SIDES:
        value = getattr(wanted, name)
        if value is not None and name in table.c:
            conditions.append(table.c[name] == value)
    if wanted.provider is not None and "model" in table.c:
        # Not LIKE: on SQLite it does not tell capitals from small letters.
        model, author = table.c.model, f"{wanted.provider}/"
        is_author = func.substr(model, 1, len(author)) == author
        conditions.append(is_author | (model == wanted.provider))
    return conditions


def _paged(
    query: Select[Any], groups: Sequence[ColumnElement[Any]], page: Page | None
) -> Select[Any]:
    ordered = query.order_by(*groups) if groups else query
    return ordered if page is None else ordered.limit(page.limit).offset(page.offset)


def _named(group_by: Sequence[Grouping], row: Sequence[Any]) -> dict[str, str]:
    return {name: str(value) for name, value in zip(group_by, row, strict=False)}


def _halves(column: Column[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return func.sum(column // _WHOLE), func.sum(column % _WHOLE)


def _joined(halves: Sequence[Any]) -> list[int]:
    return [
        int(whole or 0) * _WHOLE + int(rest or 0)
        for whole, rest in zip(halves[::2], halves[1::2], strict=True)
    ]
