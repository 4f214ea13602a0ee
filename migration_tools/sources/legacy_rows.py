"""Rows of the original system's SQLite database, day by day, read without changing the file."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from migration_tools.source import DaySpan
from shared.domain.money import parse_usd, to_pico
from shared.errors import MigrationError, UnusableCost

TABLES = ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage")
# Every request stands a millisecond after the other, from noon on, before any zone's day ends.
REQUESTS_MAX = 10_000_000
_DAY = "substr(usage_date, 1, 10)"
_GENERATION_DAY = "substr(generation_date, 1, 10)"
# One query per table, all in the same order, so that days come together without being collected.
_QUERIES = {
    "total": (
        "client_daily_usage",
        f"SELECT {_DAY}, client_org_id, NULL, NULL, total_tokens, total_requests, raw_cost,"  # noqa: S608 no data
        f" markup_cost FROM client_daily_usage WHERE {_DAY} BETWEEN ? AND ? ORDER BY 1, 2",
    ),
    "users": (
        "client_user_daily_usage",
        f"SELECT {_DAY}, client_org_id, coalesce(nullif(user_id, ''), openrouter_user_id), NULL,"  # noqa: S608
        " total_tokens, total_requests, raw_cost, markup_cost FROM client_user_daily_usage"
        f" WHERE {_DAY} BETWEEN ? AND ? ORDER BY 1, 2",
    ),
    "models": (
        "client_model_daily_usage",
        f"SELECT {_DAY}, client_org_id, model_name, provider, total_tokens, total_requests,"  # noqa: S608
        " raw_cost, markup_cost FROM client_model_daily_usage"
        f" WHERE {_DAY} BETWEEN ? AND ? ORDER BY 1, 2",
    ),
    "generations": (
        "processed_generations",
        f"SELECT {_GENERATION_DAY}, client_org_id, id, NULL, total_tokens, 1, total_cost, NULL"  # noqa: S608
        f" FROM processed_generations WHERE {_GENERATION_DAY} BETWEEN ? AND ? ORDER BY 1, 2, 3",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What one row says: of a user, of a model, of a generation or of the whole day."""

    name: str
    provider: str = ""
    tokens: int
    requests: int
    pico: int


@dataclass
class LegacyDay:
    """What all tables say of one organization's day; `damaged` holds what could not be read."""

    organization_id: str
    day: date
    total: list[Portion] = field(default_factory=list)
    users: list[Portion] = field(default_factory=list)
    models: list[Portion] = field(default_factory=list)
    generations: list[Portion] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@contextmanager
def readable(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading; whatever is wrong with it is said in one sentence."""
    try:
        if not path.is_file():
            raise MigrationError(f"{path}: there is no such file")
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise MigrationError(f"{path} cannot be read: {error}") from error


def tables_of(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the tables of a database."""
    return {
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }


def legacy_days(connection: sqlite3.Connection, span: DaySpan) -> Iterator[LegacyDay]:
    """Return every organization's days in order; only one day is in memory at a time."""
    bounds = (str(span.first), str(span.last))
    present = tables_of(connection)
    # A cursor of its own for each table: they are read side by side.
    streams = [
        _tagged(connection.execute(query, bounds), kind)
        for kind, (table, query) in _QUERIES.items()
        if table in present
    ]
    for (day, organization_id), rows in groupby(
        merge(*streams, key=itemgetter(0, 1)), key=itemgetter(0, 1)
    ):
        try:
            found = LegacyDay(organization_id, date.fromisoformat(day))
        except ValueError:
            continue  # `strange_dates` counts these
        for _, _, kind, row in rows:
            _add(found, kind, row)
        yield found


def strange_dates(connection: sqlite3.Connection) -> dict[str, int]:
    """Count the rows of each table whose date is no date: no range of days includes them."""
    counts: dict[str, int] = {}
    present = tables_of(connection)
    for table in (*TABLES, "processed_generations"):
        column = _GENERATION_DAY if table == "processed_generations" else _DAY
        if table in present:
            query = f"SELECT count(*) FROM {table} WHERE date({column}) IS NOT {column}"  # noqa: S608
            query += f" OR {column} IS NULL"
            [counts[table]] = connection.execute(query).fetchone()
    return {table: count for table, count in counts.items() if count}


def _tagged(rows: sqlite3.Cursor, kind: str) -> Iterator[tuple[str, str, str, tuple[Any, ...]]]:
    for row in rows:
        yield str(row[0]), str(row[1] or "unassigned"), kind, row


def _add(found: LegacyDay, kind: str, row: tuple[Any, ...]) -> None:
    _, _, name, provider, tokens, requests, cost, _ = row
    try:
        portion = Portion(
            name=str(name or "unknown"),
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


def _count(value: object, column: str, most: int = 2**53) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and 0 <= value <= most:
        return value
    raise ValueError(f"{column} {str(value)[:40]!r} is no count")
