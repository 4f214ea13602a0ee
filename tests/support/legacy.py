"""Builders of the original system's database: clean, inconsistent, damaged, huge."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from tests.support.builders import ALICE, BOB, CHARLIE

FIRST_DAY = date(2025, 1, 1)
GPT, CLAUDE, GEMINI = "openai/gpt-4o", "anthropic/claude-3.5-sonnet", "google/gemini-pro-1.5"
SCHEMA = """
CREATE TABLE client_organizations (
    id TEXT PRIMARY KEY, name TEXT, openrouter_api_key TEXT UNIQUE, openrouter_key_hash TEXT,
    markup_rate FLOAT DEFAULT 1.3, monthly_limit FLOAT, billing_email TEXT,
    timezone TEXT DEFAULT 'Europe/Warsaw', is_active INT DEFAULT 1,
    created_at BIGINT, updated_at BIGINT);
CREATE TABLE user_client_mapping (
    id TEXT PRIMARY KEY, user_id TEXT, client_org_id TEXT, openrouter_user_id TEXT,
    is_active INT DEFAULT 1, created_at BIGINT, updated_at BIGINT);
CREATE TABLE client_daily_usage (
    id TEXT PRIMARY KEY, client_org_id TEXT, usage_date DATE, total_tokens INT,
    total_requests INT, raw_cost FLOAT, markup_cost FLOAT, primary_model TEXT, unique_users INT,
    created_at BIGINT, updated_at BIGINT);
CREATE TABLE client_user_daily_usage (
    id TEXT PRIMARY KEY, client_org_id TEXT, user_id TEXT, openrouter_user_id TEXT,
    usage_date DATE, total_tokens INT, total_requests INT, raw_cost FLOAT, markup_cost FLOAT,
    created_at BIGINT, updated_at BIGINT);
CREATE TABLE client_model_daily_usage (
    id TEXT PRIMARY KEY, client_org_id TEXT, model_name TEXT, usage_date DATE, total_tokens INT,
    total_requests INT, raw_cost FLOAT, markup_cost FLOAT, provider TEXT,
    created_at BIGINT, updated_at BIGINT);
CREATE TABLE processed_generations (
    id TEXT PRIMARY KEY, client_org_id TEXT, generation_date DATE, processed_at BIGINT,
    total_cost FLOAT, total_tokens INT);
CREATE TABLE global_settings (
    id TEXT PRIMARY KEY, openrouter_provisioning_key TEXT, default_markup_rate FLOAT DEFAULT 1.3,
    billing_currency TEXT DEFAULT 'USD', created_at BIGINT, updated_at BIGINT);
"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it was made; the original kept no such row."""

    organization: str = "acme"
    day: date = FIRST_DAY
    user: str = ALICE
    model: str = GPT
    tokens: int = 1000
    nano_usd: int = 2_500_000


def believable_requests(days: int = 5) -> list[Request]:
    """Return some days of two organizations: four people, three models, odd amounts."""
    people = [("acme", ALICE), ("acme", BOB), ("globex", CHARLIE), ("globex", "dora-id")]
    models = [GPT, CLAUDE, GEMINI]
    return [
        Request(
            organization=organization,
            day=FIRST_DAY + timedelta(days=day),
            user=user,
            model=models[(number + day + at) % len(models)],
            tokens=137 * (number + 1) + 11 * day + at,
            nano_usd=(7_919 * (number + 3) * (at + 1) + 104_729 * (day + 1)) % 30_000_000,
        )
        for day in range(days)
        for at, (organization, user) in enumerate(people)
        for number in range(3 + (day + at) % 4)
    ]


def legacy_database(
    path: Path, requests: Iterable[Request], *, rate: float = 1.3, marked_up: bool = False
) -> Path:
    """Write the database that the original would have kept of these requests.

    Sums are added up as floats, the way it did. `marked_up` writes raw_cost with the markup in it.
    """
    made = list(requests)
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(SCHEMA)
        for number, organization in enumerate(sorted({each.organization for each in made})):
            db.execute(
                "INSERT INTO client_organizations VALUES (?,?,?,?,?,NULL,NULL,?,1,?,?)",
                (organization, organization.title(), f"sk-or-{organization}", "",
                 rate, "Europe/Warsaw", 1735600000 + number, 1735600000),
            )  # fmt: skip
        people = {each.user: each.organization for each in made}
        db.executemany(
            "INSERT INTO user_client_mapping VALUES (?,?,?,?,1,1735600000,1735600000)",
            [(user, user, organization, user) for user, organization in sorted(people.items())],
        )
        factor = rate if marked_up else 1
        _write_days(db, made, rate, factor)
        db.executemany(
            "INSERT INTO processed_generations VALUES (?,?,?,0,?,?)",
            [
                (f"gen-{1735700000 + number}-{number:020d}", each.organization, str(each.day),
                 each.nano_usd / 1e9, each.tokens)
                for number, each in enumerate(made)
            ],
        )  # fmt: skip
        db.execute("INSERT INTO global_settings VALUES ('1', NULL, 1.3, 'USD', 0, 0)")
    return path


def _write_days(
    db: sqlite3.Connection, made: Sequence[Request], rate: float, factor: float
) -> None:
    sides: dict[str, Callable[[Request], tuple[str, ...]]] = {
        "client_daily_usage": lambda each: (),
        "client_user_daily_usage": lambda each: (each.user,),
        "client_model_daily_usage": lambda each: (each.model,),
    }
    for table, side in sides.items():
        sums: dict[tuple[str, ...], list[float]] = {}
        for each in made:
            key = (each.organization, str(each.day), *side(each))
            found = sums.setdefault(key, [0, 0, 0.0])
            found[0] += each.tokens
            found[1] += 1
            found[2] += each.nano_usd / 1e9 * factor
        for (organization, day, *name), (tokens, requests, raw) in sums.items():
            row = {
                "id": ":".join((organization, day, *name)),
                "client_org_id": organization,
                "usage_date": day,
                "total_tokens": tokens,
                "total_requests": requests,
                "raw_cost": raw,
                "markup_cost": raw * rate,
            }
            if table == "client_user_daily_usage":
                row |= {"user_id": name[0], "openrouter_user_id": name[0]}
            if table == "client_model_daily_usage":
                row |= {"model_name": name[0], "provider": name[0].split("/")[0]}
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            db.execute(
                f"INSERT INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608
                list(row.values()),
            )


def truth(requests: Sequence[Request]) -> dict[tuple[str, str], list[int]]:
    """Add up requests by organization and day, independently of the code under test."""
    sums: dict[tuple[str, str], list[int]] = {}
    for each in requests:
        found = sums.setdefault((each.organization, str(each.day)), [0, 0, 0])
        for at, amount in enumerate((1, each.tokens, each.nano_usd * 1000)):
            found[at] += amount
    return sums


def change(path: Path, query: str, *values: object) -> None:
    """Change a database by hand, to make it inconsistent or damaged."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(query, values)


def huge_database(path: Path, days: int, people: int, models: int) -> Path:
    """Write `days` x (1 + people + models) daily rows, one request per person and day."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(SCHEMA)
        db.execute(
            "INSERT INTO client_organizations VALUES "
            "('acme','Acme','sk-or-1','',1.3,NULL,NULL,'Europe/Warsaw',1,1,1)"
        )
        for number in range(days):
            _write_huge_day(db, str(FIRST_DAY + timedelta(days=number)), people, models)
    return path


def _write_huge_day(db: sqlite3.Connection, day: str, people: int, models: int) -> None:
    of_model = [[0, 0, 0] for _ in range(models)]
    rows = []
    for at in range(people):
        tokens, nano = 100 + at % 97, 1000 + 17 * (at % 1013)
        rows.append((f"{day}u{at}", "acme", f"user-{at}", f"user-{at}", day, tokens, 1, nano / 1e9))
        for column, amount in enumerate((tokens, 1, nano)):
            of_model[at % models][column] += amount
    db.executemany("INSERT INTO client_user_daily_usage VALUES (?,?,?,?,?,?,?,?,0,0,0)", rows)
    db.executemany(
        "INSERT INTO client_model_daily_usage VALUES (?,'acme',?,?,?,?,?,0,'author',0,0)",
        [(f"{day}m{at}", f"author/model-{at}", day, t, n, c / 1e9)
         for at, (t, n, c) in enumerate(of_model)],
    )  # fmt: skip
    tokens, requests, nano = (sum(column) for column in zip(*of_model, strict=True))
    db.execute(
        "INSERT INTO client_daily_usage VALUES (?,'acme',?,?,?,?,0,NULL,?,0,0)",
        (f"{day}", day, tokens, requests, nano / 1e9, people),
    )
