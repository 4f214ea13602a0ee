"""Days of the original system with few requests and odd sums, and their database."""

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
    """The two margins of a day, which have only their totals in common."""

    organization: str
    day: date
    users: Mapping[str, Sums]
    models: Mapping[str, Sums]


def thin_days(random: Random, days: int) -> list[ThinDay]:
    """Draw days of 1 to 5 people, 1 to 5 models and 1 to 6 requests, split in any way at all."""
    found = []
    for number in range(days):
        totals = (random.randint(1, 6), random.choice([0, 7, 9999]), random.randint(0, 10**9))
        found.append(
            ThinDay(
                organization=random.choice(["acme", "globex"]),
                day=FIRST_DAY + timedelta(days=number),
                users=_side(random, "user", totals),
                models=_side(random, "author/model", totals),
            )
        )
    return found


def _side(random: Random, name: str, totals: Sums) -> dict[str, Sums]:
    width = random.randint(1, 5)
    requests, tokens, nano = (_shares(random, total, width) for total in totals)
    rows = zip(requests, tokens, nano, strict=True)
    return {f"{name}-{at}": row for at, row in enumerate(rows)}


def _shares(random: Random, total: int, width: int) -> list[int]:
    cuts = sorted(random.randint(0, total) for _ in range(width - 1))
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
