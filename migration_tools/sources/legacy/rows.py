"""Rows of the original system's SQLite database, read day by day without changing the file."""

import re
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from migration_tools.source import ENDLESS, EVER, DaySpan
from shared.core.ids import LABEL_MAX_BYTES, clean_label, digest
from shared.core.money import format_usd, from_pico, parse_usd, to_pico
from shared.errors import MigrationError, UnusableCost

TABLES = ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage")
# Requests are a millisecond apart, from noon on, and must end before the day does in any zone.
REQUESTS_MAX = 10_000_000
# Names longer than a label stay distinct by a digest after their first characters.
_NAME_KEPT = 24
_DIGITS = re.compile(r"[0-9]{1,19}")


def day_of(column: str) -> str:
    """Return SQL for the day in a column, without a time of day after it."""
    return f"substr({column}, 1, 10)"


def is_usable(column: str) -> str:
    """Return an SQL condition: the column has a day that an import can name."""
    day = day_of(column)
    # Without a modifier SQLite takes the 30th of February for a day.
    return f"({day} = date({day}, '+0 days') AND {day} BETWEEN '{EVER}' AND '{ENDLESS}')"


def _query(table: str, column: str, names: str, amounts: str) -> tuple[str, str]:
    """Select days of a table, in the same order for all tables, so that they can be merged."""
    query = (
        f"SELECT {day_of(column)}, label(client_org_id), {names}, {amounts} FROM {table}"  # noqa: S608 no data
        f" WHERE {is_usable(column)} AND {day_of(column)} BETWEEN ? AND ? ORDER BY 1, 2, 3"
    )
    return table, query


_SUMS = "total_tokens, total_requests, raw_cost"
_USER = "coalesce(nullif(user_id, ''), openrouter_user_id)"
_QUERIES = {
    "total": _query("client_daily_usage", "usage_date", "NULL, NULL", _SUMS),
    "users": _query("client_user_daily_usage", "usage_date", f"{_USER}, NULL", _SUMS),
    "models": _query("client_model_daily_usage", "usage_date", "model_name, provider", _SUMS),
    "generations": _query(
        "processed_generations", "generation_date", "id, NULL", "total_tokens, 1, total_cost"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Portion:
    """One row: of a user, a model, a generation or the whole day."""

    name: str
    provider: str = ""
    tokens: int
    requests: int
    pico: int


@dataclass
class LegacyDay:
    """All tables' rows of one organization's day; `damaged` lists what is wrong with them."""

    organization_id: str
    day: date
    total: list[Portion] = field(default_factory=list)
    users: list[Portion] = field(default_factory=list)
    models: list[Portion] = field(default_factory=list)
    generations: list[Portion] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@contextmanager
def readable(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading. Raises MigrationError for any error inside.

    Its SQL has a function `label`, by which all tables name an organization alike.
    """
    try:
        if not path.is_file():
            raise MigrationError(f"{path}: there is no such file")
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
        connection.create_function("label", 1, organization_label, deterministic=True)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise MigrationError(f"{path} cannot be read: {error}") from error


def tables_of(connection: sqlite3.Connection) -> set[str]:
    return {
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }


def legacy_days(connection: sqlite3.Connection, span: DaySpan) -> Iterator[LegacyDay]:
    """Return every organization's days in order, with one day in memory at a time."""
    bounds = (str(span.first), str(span.last))
    present = tables_of(connection)
    listed = _listed(connection) if "client_daily_usage" in present else set()
    # A cursor of its own for each table: they are read side by side.
    streams = [
        _tagged(connection.execute(query, bounds), kind)
        for kind, (table, query) in _QUERIES.items()
        if table in present
    ]
    for (day, organization_id), rows in groupby(
        merge(*streams, key=itemgetter(0, 1)), key=itemgetter(0, 1)
    ):
        found = LegacyDay(organization_id, date.fromisoformat(day))
        for _, _, kind, row in rows:
            _add(found, kind, row)
        found.damaged += _unlisted(found, listed)
        yield found


def unusable_dates(connection: sqlite3.Connection) -> dict[str, int]:
    """Count the rows of each table with an unusable date, which no span of days includes."""
    counts: dict[str, int] = {}
    present = tables_of(connection)
    for table in (*TABLES, "processed_generations"):
        column = "generation_date" if table == "processed_generations" else "usage_date"
        if table in present:
            query = f"SELECT count(*) FROM {table} WHERE {is_usable(column)} IS NOT TRUE"  # noqa: S608
            [counts[table]] = connection.execute(query).fetchone()
    return {table: count for table, count in counts.items() if count}


def _tagged(rows: sqlite3.Cursor, kind: str) -> Iterator[tuple[str, str, str, tuple[Any, ...]]]:
    for row in rows:
        yield row[0], row[1], kind, row


def _add(found: LegacyDay, kind: str, row: tuple[Any, ...]) -> None:
    _, _, name, provider, tokens, requests, cost = row
    try:
        portion = Portion(
            name=_id(name) if kind == "generations" else label_of(name, "unknown"),
            provider=str(provider or ""),
            tokens=_count(tokens, "total_tokens"),
            requests=_count(requests, "total_requests", REQUESTS_MAX),
            pico=to_pico(parse_usd(cost)),
        )
    except UnusableCost as error:
        found.damaged.append(f"{kind} {name or ''}: cost {cost!r} is {error.reason}")
    except ValueError as error:
        found.damaged.append(f"{kind} {name or ''}: {error}")
    else:
        getattr(found, kind).append(portion)


def _listed(connection: sqlite3.Connection) -> set[str]:
    """Return the organizations of the daily table."""
    rows = connection.execute("SELECT DISTINCT label(client_org_id) FROM client_daily_usage")
    return {organization_id for (organization_id,) in rows}


def _unlisted(found: LegacyDay, listed: Collection[str]) -> list[str]:
    """Report a day that other tables have and the daily table lacks.

    An organization that was renamed in some of the tables would be billed under both names. A
    known one may have a day of which only its generations are left.
    """
    rows = found.users or found.models
    if not rows and found.organization_id not in listed:
        rows = found.generations
    if not listed or found.total or not rows:
        return []
    requests, pico = sum(row.requests for row in rows), sum(row.pico for row in rows)
    cost = format_usd(from_pico(pico))
    return [f"client_daily_usage has no row for {requests} requests and {cost} USD of the day"]


def organization_label(value: object) -> str:
    return label_of(value, "unassigned")


@lru_cache(maxsize=65_536, typed=True)
def label_of(value: object, default: str) -> str:
    """Turn any value into a label; two names that are too long stay distinct."""
    text = "" if value is None else str(value)
    if len(text) <= _NAME_KEPT or len(text.encode(errors="replace")) <= LABEL_MAX_BYTES:
        return clean_label(text, default)
    return f"{clean_label(text[:_NAME_KEPT], default)}~{digest(text, size=8)}"


def _id(value: object) -> str:
    if value in (None, ""):
        raise ValueError("a row has no id")
    return str(value)


def _count(value: object, column: str, most: int = 2**53) -> int:
    match value:
        case float() if value.is_integer():
            number = int(value)
        case str() if _DIGITS.fullmatch(value):
            number = int(value)
        case int():
            number = value
        case _:
            number = -1
    if 0 <= number <= most:
        return number
    raise ValueError(f"{column} {str(value)[:40]!r} is no count")
