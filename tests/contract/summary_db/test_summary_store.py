"""What every database of summaries promises: SQLite and PostgreSQL."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import Engine, text

from shared.core.amounts import Amounts
from shared.core.days import ZoneDay
from shared.core.rows import UserRow
from shared.errors import ConfigError, ProjectionError, WouldShrink
from shared.event_store.port import Fingerprint
from shared.projection.day_reader import day_window
from shared.projection.port import ProjectedDay
from shared.projection.summary import DayFacts, DayFinding, SummaryKey, SummaryRow, UnmeteredCount
from shared.summary_db.database import SummaryDatabase, open_summaries
from shared.summary_db.engine import open_engine, upgrade
from shared.summary_db.reports import Grouping, UsageFilter
from tests.support.builders import ALICE, BOB
from tests.support.ledger import DAY, DEFAULTS, TOKYO, WARSAW, FixedClock, organization, utc
from tests.support.services.postgres import DATABASES, a_database

HERE = ZoneDay(DAY, WARSAW)
BUCKET = utc("2026-11-24 12:00")
LARGEST = 2**63 - 1


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    """Yield an engine for the statements of a test."""
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of an empty database."""
    with a_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def summaries(url: str, clock: FixedClock) -> Iterator[SummaryDatabase]:
    with closing(open_summaries(url, DEFAULTS, clock)) as summaries:
        yield summaries


def row(user: str = ALICE, organization_id: str = "acme", **amounts: int) -> SummaryRow:
    key = SummaryKey(
        organization_id=organization_id,
        local_date=DAY,
        external_user=user,
        model="openai/gpt-5-mini",
        task="chat",
        source="function",
    )
    return SummaryRow(key, Amounts(**({"events": 1} | amounts)))


def a_day(summaries: SummaryDatabase, *rows: SummaryRow, **fields: object) -> ProjectedDay:
    """Return a day as a projection hands it over."""
    counted = {BUCKET: Fingerprint(len(rows), 0, 0)} if rows else {}
    return replace(
        ProjectedDay(
            day=HERE,
            window=day_window(HERE),
            directory=summaries.organizations.directory(),
            facts=DayFacts(rows=sorted(rows, key=lambda each: each.key)),
            fingerprints=counted,
            invalidations=(),
            why="by hand",
            allow_shrink=None,
            events_read=len(rows),
            was_resolved=False,
            started_at=BUCKET,
        ),
        **fields,  # type: ignore[arg-type]
    )


def query(url: str, statement: str) -> list[dict[str, object]]:
    with engine_of(url) as engine, engine.begin() as connection:
        return [dict(each._mapping) for each in connection.execute(text(statement))]


def test_a_database_of_a_later_version_is_refused_with_a_sentence(url: str) -> None:
    upgrade(url)
    with engine_of(url) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="later version"):
        upgrade(url)


def test_what_is_written_is_read_back_the_same(summaries: SummaryDatabase) -> None:
    strange = 'O\'Brien \\ "x", \u0105\U0001f600; DROP TABLE daily_usage'
    amounts = {name: number for number, name in enumerate(Amounts.__dataclass_fields__, 1)}
    count = UnmeteredCount(
        organization_id="acme",
        local_date=DAY,
        external_user=strange,
        model="m",
        task="title_generation",
        generations=3,
    )
    finding = DayFinding(
        organization_id="acme", local_date=DAY, request_id="gen-1", kind="conflict", detail=strange
    )
    facts = DayFacts([row(strange, "acme", **amounts)], [count], [finding])
    summaries.days.replace_day(a_day(summaries, facts=facts))
    assert summaries.days.stored_day(HERE) == facts


def test_a_replacement_leaves_nothing_of_what_was_there(summaries: SummaryDatabase) -> None:
    summaries.days.replace_day(a_day(summaries, row(ALICE), row(BOB)))
    written = summaries.days.replace_day(a_day(summaries, row(ALICE), allow_shrink="a test"))
    assert written.rows_written == 1
    assert [each.key.external_user for each in summaries.days.stored_day(HERE).rows] == [ALICE]


def test_a_day_that_is_the_same_is_not_written_again(url: str, summaries: SummaryDatabase) -> None:
    summaries.days.replace_day(a_day(summaries, row()))
    before = query(url, "SELECT * FROM daily_usage")
    assert summaries.days.replace_day(a_day(summaries, row())).rows_written == 0
    assert query(url, "SELECT * FROM daily_usage") == before


def test_only_the_day_of_its_own_zone_is_replaced(summaries: SummaryDatabase) -> None:
    summaries.organizations.add(organization("edo", time_zone=TOKYO))
    there = ZoneDay(DAY, TOKYO)
    abroad = row(organization_id="edo")
    summaries.days.replace_day(a_day(summaries, row()))
    summaries.days.replace_day(
        a_day(summaries, abroad, day=there, window=day_window(there), allow_shrink="a test")
    )
    assert [each.key.organization_id for each in summaries.days.stored_day(HERE).rows] == ["acme"]
    assert list(summaries.days.stored_day(there).rows) == [abroad]


def test_a_refused_day_changes_nothing_at_all(url: str, summaries: SummaryDatabase) -> None:
    summaries.days.replace_day(a_day(summaries, row(ALICE), row(BOB)))
    tables = ("daily_usage", "fingerprints", "batch_runs", "client_organizations", "dirty_days")
    before = [query(url, f"SELECT * FROM {table}") for table in tables]  # noqa: S608
    with pytest.raises(WouldShrink, match="held 2 events and now shows 1"):
        summaries.days.replace_day(a_day(summaries, row(ALICE)))
    too_much = row(organization_id="new", raw_pico_usd=LARGEST + 1)
    with pytest.raises(ProjectionError, match="64 bits"):
        summaries.days.replace_day(a_day(summaries, too_much, row(BOB)))
    after = [query(url, f"SELECT * FROM {table}") for table in tables]  # noqa: S608
    assert after == before


def test_a_changed_bucket_marks_every_day_within_an_hour_of_it(summaries: SummaryDatabase) -> None:
    summaries.organizations.add(organization("edo", time_zone=TOKYO))
    late = utc("2026-11-24 22:15")
    window = day_window(HERE)
    assert summaries.days.invalidate_changed(window, {late: Fingerprint(1, 2, 3)}) == {late}
    tomorrow = DAY + timedelta(days=1)
    assert [dirty.day for dirty in summaries.days.dirty_days()] == [
        ZoneDay(DAY, WARSAW),
        ZoneDay(tomorrow, TOKYO),
        ZoneDay(tomorrow, WARSAW),
    ]


@pytest.mark.parametrize(
    "found",
    [{}, {BUCKET: Fingerprint(1, 0, 0), utc("2026-11-24 13:00"): Fingerprint(1, 0, 0)},
     {BUCKET: Fingerprint(1, 7, 0)}, {BUCKET: Fingerprint(1, 0, 7)}],
    ids=["gone", "new", "other cost", "other tokens"],
)  # fmt: skip
def test_any_change_of_a_bucket_is_one(
    summaries: SummaryDatabase, found: dict[datetime, Fingerprint]
) -> None:
    summaries.days.replace_day(a_day(summaries, row()))
    assert (
        summaries.days.invalidate_changed(day_window(HERE), {BUCKET: Fingerprint(1, 0, 0)}) == set()
    )
    assert summaries.days.dirty_days() == []
    assert len(summaries.days.invalidate_changed(day_window(HERE), found)) == 1
    assert [dirty.day for dirty in summaries.days.dirty_days()] == [HERE]


def test_a_mark_made_while_a_day_is_read_survives_its_replacement(
    summaries: SummaryDatabase,
) -> None:
    found = {BUCKET: Fingerprint(1, 0, 0)}
    summaries.days.invalidate_changed(day_window(HERE), found)
    [before] = summaries.days.dirty_days()
    summaries.days.invalidate_changed(day_window(HERE), found)
    summaries.days.replace_day(a_day(summaries, row(), invalidations=before.invalidations))
    [after] = summaries.days.dirty_days()
    assert set(after.invalidations).isdisjoint(before.invalidations)
    summaries.days.replace_day(a_day(summaries, row(), invalidations=after.invalidations))
    assert summaries.days.dirty_days() == []


def test_sums_over_days_do_not_overflow(summaries: SummaryDatabase) -> None:
    rows = [row(user, raw_pico_usd=LARGEST, billed_pico_usd=LARGEST - 1) for user in "abc"]
    summaries.days.replace_day(a_day(summaries, *rows))
    [line] = summaries.reports.usage(UsageFilter(start=DAY, end=DAY), ())
    totals = line.amounts
    assert (totals.raw_pico_usd, totals.billed_pico_usd) == (3 * LARGEST, 3 * (LARGEST - 1))
    assert totals.events == 3


def test_a_report_has_a_line_per_organization_user_model_and_task(
    summaries: SummaryDatabase,
) -> None:
    other = row(raw_pico_usd=3, billed_pico_usd=4)
    hook = SummaryRow(replace(other.key, source="webhook"), other.amounts)
    task = UnmeteredCount(
        organization_id="acme",
        local_date=DAY,
        external_user=BOB,
        model="m",
        task="title_generation",
        generations=2,
    )
    facts = DayFacts([other, hook], [task], [])
    summaries.days.replace_day(a_day(summaries, facts=facts))
    reports, day = summaries.reports, UsageFilter(start=DAY, end=DAY)
    grain: list[Grouping] = ["organization_id", "external_user", "model", "task"]
    [line] = reports.usage(day, grain)
    assert (line.group["external_user"], line.group["task"]) == (ALICE, "chat")
    assert line.amounts.events == 2
    assert (line.amounts.raw_pico_usd, line.amounts.billed_pico_usd) == (6, 8)
    [tasks] = reports.unmetered(day, grain)
    assert (tasks.group["external_user"], tasks.group["task"]) == (BOB, "title_generation")
    assert tasks.generations == 2
    later = UsageFilter(start=DAY + timedelta(days=1), end=DAY + timedelta(days=9))
    assert reports.usage(later, grain) == []
    assert reports.unmetered(later, grain) == []
    [none] = reports.usage(replace(day, organization_id="nobody"), ())
    assert none.amounts.events == 0
    [two] = reports.unmetered(replace(day, organization_id="acme"), ())
    assert two.generations == 2


@pytest.mark.parametrize(
    ("sources", "mixed"),
    [
        (("pipeline", "webhook"), [DAY]),
        (("pipeline", "import:csv-1"), [DAY]),
        (("pipeline", "function"), []),
        (("webhook", "function"), []),
    ],
)
def test_a_day_on_which_both_kinds_were_billed_is_named(
    summaries: SummaryDatabase, sources: tuple[str, ...], mixed: list[date]
) -> None:
    each = row()
    rows = [SummaryRow(replace(each.key, source=source), each.amounts) for source in sources]
    summaries.days.replace_day(a_day(summaries, *rows))
    assert summaries.reports.mixed_days(DAY, DAY) == mixed
    assert summaries.reports.mixed_days(DAY + timedelta(days=1), DAY + timedelta(days=9)) == []


def test_the_original_tables_are_views_of_the_same_money(
    url: str, summaries: SummaryDatabase
) -> None:
    usd = 10**12
    cheap = row(ALICE, total_tokens=5, raw_pico_usd=usd // 4, billed_pico_usd=usd // 2, events=2)
    other_model = SummaryRow(
        replace(cheap.key, model="anthropic/claude", external_user=BOB),
        Amounts(events=1, total_tokens=9, raw_pico_usd=LARGEST, billed_pico_usd=LARGEST),
    )
    odd = SummaryRow(replace(cheap.key, model="unresolved:preset"), Amounts(events=1))
    summaries.days.replace_day(a_day(summaries, cheap, other_model, odd))
    [client] = query(url, "SELECT * FROM client_daily_usage")
    assert set(client) == {
        "id", "client_org_id", "usage_date", "total_tokens", "total_requests", "raw_cost",
        "markup_cost", "primary_model", "unique_users", "created_at", "updated_at",
    }  # fmt: skip
    assert client["id"] == f"acme:{DAY}"
    assert (client["total_tokens"], client["total_requests"]) == (14, 4)
    assert (client["primary_model"], client["unique_users"]) == ("anthropic/claude", 2)
    assert client["raw_cost"] == pytest.approx(9223372.286854775, rel=1e-15)
    assert isinstance(client["raw_cost"], float)
    assert client["created_at"] == client["updated_at"] == int(utc("2026-11-24 18:00").timestamp())
    users = query(url, "SELECT * FROM client_user_daily_usage ORDER BY user_id")
    assert set(users[0]) == {
        "id", "client_org_id", "user_id", "openrouter_user_id", "usage_date", "total_tokens",
        "total_requests", "raw_cost", "markup_cost", "created_at", "updated_at",
    }  # fmt: skip
    assert [(each["user_id"], each["markup_cost"]) for each in users] == [
        (ALICE, 0.5),
        (BOB, pytest.approx(9223372.036854775)),
    ]
    models = query(url, "SELECT * FROM client_model_daily_usage ORDER BY model_name")
    assert set(models[0]) == {
        "id", "client_org_id", "model_name", "usage_date", "total_tokens", "total_requests",
        "raw_cost", "markup_cost", "provider", "created_at", "updated_at",
    }  # fmt: skip
    assert [each["provider"] for each in models] == ["anthropic", "openai", "unresolved:preset"]
    assert len({each["id"] for each in models}) == 3


def test_the_same_failure_in_a_row_is_one_record(summaries: SummaryDatabase) -> None:
    told = [summaries.days.record_failure(HERE, BUCKET, error) for error in ("a", "a", "b", "a")]
    told.append(summaries.days.record_failure(None, BUCKET, "a"))
    assert told == [1, 2, 1, 1, 1]
    runs = [(run.error, run.attempts, run.day) for run in summaries.runs.newest()]
    assert runs == [("a", 1, None), ("a", 1, HERE), ("b", 1, HERE), ("a", 2, HERE)]


def test_the_newest_name_of_a_user_counts(summaries: SummaryDatabase) -> None:
    old = UserRow(user_id=ALICE, occurred_at=BUCKET, name="Alice", email="alice@example.org")
    new = UserRow(user_id=ALICE, occurred_at=BUCKET + timedelta(seconds=1), name="Alice B.")
    for rows in ([new], [old], [new, old]):
        summaries.days.store_users(rows)
    assert summaries.users.names() == {ALICE: "Alice B."}


def test_an_erased_user_stays_erased(url: str, summaries: SummaryDatabase) -> None:
    seen = UserRow(user_id=ALICE, occurred_at=BUCKET, name="Alice", email="alice@example.org")
    summaries.days.store_users([seen])
    summaries.users.erase(ALICE)
    later = UserRow(user_id=ALICE, occurred_at=BUCKET + timedelta(days=9), name="Alice")
    summaries.days.store_users([later])
    assert summaries.users.names() == {}
    assert [each["name"] for each in query(url, "SELECT name FROM users")] == [None]


def test_writers_take_turns(url: str, summaries: SummaryDatabase) -> None:
    def work(number: int) -> None:
        with closing(open_summaries(url, DEFAULTS)) as own:
            for step in range(5):
                own.organizations.add(organization(f"client-{number}-{step}"))

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(summaries.organizations.directory().organizations) == 20


@pytest.mark.parametrize("wrong", ["mysql://host/db", "no url", "", "postgresql+nothing://host/db"])
def test_a_url_that_cannot_be_used_names_the_setting(wrong: str) -> None:
    with pytest.raises(ConfigError, match="USAGE_DATABASE_URL"):
        open_summaries(wrong, DEFAULTS)


def test_trouble_with_the_database_tells_no_password(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProjectionError, match="database of summaries"):
        open_summaries(f"sqlite:///{tmp_path / 'folder'}", DEFAULTS)
    with pytest.raises(ProjectionError) as caught:
        open_summaries("postgresql://alice:hunter2@127.0.0.1:1/usage", DEFAULTS)
    assert "hunter2" not in str(caught.value)
