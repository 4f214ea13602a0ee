"""Reports: what was used over a range of local days, added up so that it cannot overflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, case, func, select

from shared.projection.port import ReportRow
from shared.summary_db.schema import daily_usage, unmetered_daily

# SQLite raises an error when a sum leaves 64 bits, so dollars and picodollars are added apart.
_WHOLE = 10**12
_SUMMED = (
    "events",
    "pending",
    "estimated",
    "total_tokens",
    "raw_pico_usd",
    "upstream_pico_usd",
    "estimated_pico_usd",
    "billed_pico_usd",
)
_GRAIN = ("organization_id", "external_user", "model", "task")


@dataclass(frozen=True)
class _Range:
    """The rows to add up: local days, both included, of one organization or of all."""

    start: date
    end: date
    organization_id: str | None

    def of(self, table: Table) -> ColumnElement[bool]:
        days = table.c.local_date.between(self.start, self.end)
        if self.organization_id is None:
            return days
        return days & (table.c.organization_id == self.organization_id)


def read_report(
    connection: Connection, start: date, end: date, organization_id: str | None = None
) -> list[ReportRow]:
    """Return a line per organization, user, model and task, in that order."""
    rows = _Range(start, end, organization_id)
    lines: dict[tuple[str, ...], dict[str, int]] = {}
    usage = {name: daily_usage.c[name] for name in _SUMMED}
    for grain, sums in _grouped(connection, daily_usage, usage, rows):
        lines[grain] = sums
    unmetered = {"unmetered": unmetered_daily.c.generations}
    for grain, sums in _grouped(connection, unmetered_daily, unmetered, rows):
        lines.setdefault(grain, {}).update(sums)
    return [_line(grain, lines[grain]) for grain in sorted(lines)]


def read_totals(
    connection: Connection, start: date, end: date, organization_id: str | None
) -> ReportRow:
    """Return one line that adds up a report, exact and however large."""
    lines = read_report(connection, start, end, organization_id)
    sums = {name: sum(getattr(line, name) for line in lines) for name in (*_SUMMED, "unmetered")}
    return _line((organization_id or "", "", "", ""), sums)


def read_mixed_days(connection: Connection, start: date, end: date) -> list[date]:
    """Return the days on which an organization was billed whole answers and generations alike."""
    source = daily_usage.c.source
    sees_generations = source.in_(("webhook", "gateway")) | source.like("import:%")
    days = select(daily_usage.c.local_date).group_by(
        daily_usage.c.organization_id, daily_usage.c.local_date
    )
    found = days.where(daily_usage.c.local_date.between(start, end)).having(
        func.count(case((source == "pipeline", 1))) > 0,
        func.count(case((sees_generations, 1))) > 0,
    )
    return sorted(set(connection.scalars(found)))


def _grouped(
    connection: Connection, table: Table, columns: Mapping[str, Column[Any]], rows: _Range
) -> list[tuple[tuple[str, ...], dict[str, int]]]:
    grain = [table.c[name] for name in _GRAIN]
    halves = [half for column in columns.values() for half in _halves(column)]
    found = connection.execute(select(*grain, *halves).where(rows.of(table)).group_by(*grain))
    return [
        (tuple(row[: len(grain)]), dict(zip(columns, _joined(row[len(grain) :]), strict=True)))
        for row in found
    ]


def _halves(column: Column[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return func.sum(column // _WHOLE), func.sum(column % _WHOLE)


def _joined(halves: Sequence[Any]) -> list[int]:
    return [
        int(whole) * _WHOLE + int(rest)
        for whole, rest in zip(halves[::2], halves[1::2], strict=True)
    ]


def _line(grain: tuple[str, ...], sums: Mapping[str, int]) -> ReportRow:
    organization, user, model, task = grain
    return ReportRow(
        organization_id=organization, external_user=user, model=model, task=task, **sums
    )
