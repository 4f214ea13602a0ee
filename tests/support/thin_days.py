"""Days of the original system with few requests and odd sums, and the database that says so."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

from tests.support.legacy import FIRST_DAY, SCHEMA

# Requests, tokens and nano-USD.
Sums = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ThinDay:
    """What the two margins of a day say; they have the same totals and nothing else in common."""

    organization: str
    day: date
    users: Mapping[str, Sums]
    models: Mapping[str, Sums]


def thin_days(chance: Random, days: int) -> list[ThinDay]:
    """Draw days of 1 to 5 people, 1 to 5 models and 1 to 6 requests, split in any way at all."""
    found = []
    for number in range(days):
        totals = (chance.randint(1, 6), chance.choice([0, 7, 9999]), chance.randint(0, 10**9))
        found.append(
            ThinDay(
                organization=chance.choice(["acme", "globex"]),
                day=FIRST_DAY + timedelta(days=number),
                users=_side(chance, "user", totals),
                models=_side(chance, "author/model", totals),
            )
        )
    return found


def _side(chance: Random, name: str, totals: Sums) -> dict[str, Sums]:
    width = chance.randint(1, 5)
    requests, tokens, nano = (_shares(chance, total, width) for total in totals)
    rows = zip(requests, tokens, nano, strict=True)
    return {f"{name}-{at}": row for at, row in enumerate(rows)}


def _shares(chance: Random, total: int, width: int) -> list[int]:
    cuts = sorted(chance.randint(0, total) for _ in range(width - 1))
    return [end - start for start, end in pairwise([0, *cuts, total])]


def thin_database(path: Path, days: Sequence[ThinDay]) -> Path:
    """Write the database that the original would have kept of these days."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(SCHEMA)
        db.executemany(
            "INSERT INTO client_organizations (id, name, created_at) VALUES (?, ?, 1)",
            [("acme", "Acme"), ("globex", "Globex")],
        )
        for at, each in enumerate(days):
            place = (each.organization, str(each.day))
            total = [sum(column) for column in zip(*each.users.values(), strict=True)]
            _write(db, "client_daily_usage", "id", {f"{at}": total}, place)
            _write(db, "client_user_daily_usage", "user_id", each.users, place)
            _write(db, "client_model_daily_usage", "model_name", each.models, place)
    return path


def _write(
    db: sqlite3.Connection,
    table: str,
    column: str,
    side: Mapping[str, Sequence[int]],
    place: tuple[str, str],
) -> None:
    db.executemany(
        f"INSERT INTO {table} ({column}, total_requests, total_tokens, raw_cost, markup_cost,"  # noqa: S608
        " client_org_id, usage_date) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (name, requests, tokens, nano / 1e9, nano / 1e9 * 1.3, *place)
            for name, (requests, tokens, nano) in side.items()
        ],
    )
