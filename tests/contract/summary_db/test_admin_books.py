"""What the API keeps in the database of summaries, the same on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pytest

from shared.core.amounts import Amounts
from shared.core.days import ZoneDay, day_bounds
from shared.errors import ConfigError
from shared.event_store.port import Window
from shared.projection.organization import Organization, OrganizationDefaults
from shared.projection.port import ProjectedDay
from shared.projection.summary import DayFacts, DayFinding, SummaryKey, SummaryRow, UnmeteredCount
from shared.summary_db.database import SummaryDatabase, open_summaries
from shared.summary_db.exchange import ExchangeRate, parse_rate
from shared.summary_db.reports import Page, UsageFilter
from shared.summary_db.runs import BatchCounts
from tests.support.builders import ALICE, BOB, NOON
from tests.support.services.postgres import DATABASES, a_database
from tests.support.spools import SetClock

WARSAW = "Europe/Warsaw"
DAY = date(2026, 11, 24)
ALL = UsageFilter(start=date(2026, 1, 1), end=date(2026, 12, 31))
HUGE = 2**63 - 1


class Database:
    """A database, and days put into it without events."""

    def __init__(self, url: str) -> None:
        self.clock = SetClock()
        self.summaries: SummaryDatabase = open_summaries(url, OrganizationDefaults(), self.clock)

    def store(self, day: date, facts: DayFacts) -> None:
        """Put facts into a day."""
        self.summaries.days.replace_day(
            ProjectedDay(
                day=ZoneDay(day, WARSAW),
                window=Window(*day_bounds(day, WARSAW)),
                directory=self.summaries.organizations.directory(),
                facts=facts,
                fingerprints={},
                invalidations=(),
                why="",
                allow_shrink=None,
                events_read=0,
                was_resolved=False,
                started_at=NOON,
            )
        )

    def close(self) -> None:
        """Close all connections."""
        self.summaries.close()


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with a_database(request.param, tmp_path) as url, closing(Database(url)) as found:
        yield found


def row(day: date = DAY, **changed: object) -> SummaryRow:
    fields: dict[str, object] = {
        "organization_id": "acme",
        "external_user": ALICE,
        "model": "openai/gpt-5-mini",
        "task": "chat",
        "source": "function",
    }
    key = {name: changed.get(name, value) for name, value in fields.items()}
    sums = {name: value for name, value in changed.items() if name not in fields}
    amounts = Amounts(**({"events": 1, "raw_pico_usd": 10, "billed_pico_usd": 13} | sums))  # type: ignore[arg-type]
    return SummaryRow(SummaryKey(local_date=day, **key), amounts)  # type: ignore[arg-type]


def facts(*rows: SummaryRow) -> DayFacts:
    return DayFacts(rows=sorted(rows, key=lambda each: each.key))


def test_figures_add_up_by_any_side(database: Database) -> None:
    database.store(DAY, facts(row(), row(external_user=BOB), row(model="plain", task="title")))
    by_user = database.summaries.reports.usage(ALL, ["external_user"])
    assert [(line.group, line.amounts.events) for line in by_user] == [
        ({"external_user": ALICE}, 2),
        ({"external_user": BOB}, 1),
    ]
    by_provider = database.summaries.reports.usage(ALL, ["provider", "task"])
    assert [line.group for line in by_provider] == [
        {"provider": "openai", "task": "chat"},
        {"provider": "plain", "task": "title"},
    ]
    [total] = database.summaries.reports.usage(ALL, [])
    assert (total.group, total.amounts.billed_pico_usd) == ({}, 39)


def test_spans_are_named_by_their_first_day(database: Database) -> None:
    days = [date(2026, 11, 1), date(2026, 11, 22), date(2026, 11, 23), date(2026, 12, 1)]
    for day in days:
        database.store(day, facts(row(day)))
    by_week = database.summaries.reports.usage(ALL, ["week"])
    assert [line.group["week"] for line in by_week] == [
        "2026-10-26",
        "2026-11-16",
        "2026-11-23",
        "2026-11-30",
    ]
    by_month = database.summaries.reports.usage(ALL, ["month", "organization_id"])
    assert [(line.group["month"], line.amounts.events) for line in by_month] == [
        ("2026-11-01", 3),
        ("2026-12-01", 1),
    ]
    assert [line.group["day"] for line in database.summaries.reports.usage(ALL, ["day"])] == [
        day.isoformat() for day in days
    ]


def test_sums_beyond_64_bits_are_exact(database: Database) -> None:
    for number in range(3):
        day = DAY - timedelta(days=number)
        database.store(day, facts(row(day, raw_pico_usd=HUGE, total_tokens=HUGE)))
    [total] = database.summaries.reports.usage(ALL, [])
    assert (total.amounts.raw_pico_usd, total.amounts.total_tokens) == (3 * HUGE, 3 * HUGE)


def test_filters_tell_capitals_apart_and_take_no_pattern(database: Database) -> None:
    database.store(DAY, facts(row(), row(model="OpenAI/gpt"), row(model="open_i/gpt")))

    def models(provider: str) -> list[str]:
        wanted = UsageFilter(start=DAY, end=DAY, provider=provider)
        return [line.group["model"] for line in database.summaries.reports.usage(wanted, ["model"])]

    assert models("openai") == ["openai/gpt-5-mini"]
    assert models("open_i") == ["open_i/gpt"]
    assert models("%") == []


def test_pages_cover_every_line_once(database: Database) -> None:
    users = [f"user-{number}" for number in range(7)]
    database.store(DAY, facts(*(row(external_user=user) for user in users)))
    found = [
        line.group["external_user"]
        for offset in (0, 3, 6)
        for line in database.summaries.reports.usage(
            ALL, ["external_user"], Page(limit=3, offset=offset)
        )
    ]
    assert found == users


def test_unmetered_generations_are_counted_and_have_no_source(database: Database) -> None:
    count = UnmeteredCount(
        organization_id="acme",
        local_date=DAY,
        external_user=ALICE,
        model="openai/gpt-5-mini",
        task="title_generation",
        generations=4,
    )
    database.store(DAY, DayFacts(unmetered=[count]))
    [line] = database.summaries.reports.unmetered(ALL, ["day", "task"])
    assert line.group == {"day": "2026-11-24", "task": "title_generation"}
    assert line.generations == 4
    with pytest.raises(ConfigError, match="no source"):
        database.summaries.reports.unmetered(ALL, ["source"])


def test_findings_are_listed_the_newest_first(database: Database) -> None:
    for number in range(2):
        day = DAY - timedelta(days=number)
        finding = DayFinding(
            organization_id="acme",
            local_date=day,
            request_id=f"gen-{number}",
            kind="conflict",
            detail="two amounts",
        )
        database.store(day, DayFacts(findings=[finding]))
    found = database.summaries.reports.findings(ALL, Page(limit=10))
    assert [each.request_id for each in found] == ["gen-0", "gen-1"]


def test_the_oldest_pending_day_is_known(database: Database) -> None:
    assert database.summaries.reports.oldest_pending_day() is None
    for number in range(3):
        day = DAY - timedelta(days=number)
        database.store(day, facts(row(day, pending=number % 2)))
    assert database.summaries.reports.oldest_pending_day() == DAY - timedelta(days=1)


def test_a_key_bills_one_organization(database: Database) -> None:
    for name in ("acme", "globex"):
        database.summaries.organizations.add(
            Organization(organization_id=name, name=name, time_zone=WARSAW)
        )
    database.summaries.keys.enter("acme", "0123abcd")
    database.summaries.keys.enter("globex", "0123abcd")
    assert database.summaries.keys.organizations() == {"0123abcd": "globex"}
    assert not database.summaries.keys.remove("acme", "0123abcd")
    assert database.summaries.keys.remove("globex", "0123abcd")
    with pytest.raises(ConfigError, match="not known"):
        database.summaries.keys.enter("nobody", "0123abcd")
    with pytest.raises(ConfigError, match="8 hex digits"):
        database.summaries.keys.enter("acme", "sk-or-v1-secret")


def test_rates_are_entered_replaced_and_looked_up(database: Database) -> None:
    def rate(day: date, value: str) -> ExchangeRate:
        return ExchangeRate(
            currency="PLN", local_date=day, rate_nano=parse_rate(value), source="NBP"
        )

    database.summaries.rates.enter([rate(DAY, "4.1"), rate(DAY, "4.2")])
    database.summaries.rates.enter([rate(DAY - timedelta(days=3), "4.0")])
    rates = database.summaries.rates.of_currency("PLN")
    assert rates.convert({DAY: 1, DAY - timedelta(days=1): 1}) == 8_200_000_000
    listed = database.summaries.rates.listed("PLN", Page(limit=10))
    assert [each.rate_nano for each in listed] == [4_200_000_000, 4_000_000_000]
    assert database.summaries.rates.listed("EUR", Page(limit=10)) == []


def test_the_first_record_under_a_key_counts(database: Database) -> None:
    assert database.summaries.manual_records.keep("key", "digest", "first") == "first"
    assert database.summaries.manual_records.keep("key", "digest", "second") == "first"
    with pytest.raises(ConfigError, match="something else"):
        database.summaries.manual_records.keep("key", "other", "third")


def test_an_asked_for_batch_is_on_record_from_the_first_moment(database: Database) -> None:
    asked = database.summaries.runs.request(DAY, DAY, "store was emptied")
    assert (asked.state, asked.ended_at, asked.asked_at) == ("running", None, NOON)
    database.clock.move(5)
    counts = BatchCounts(days=1, failed_days=0, rows_written=7, corrections=2, error=None)
    database.summaries.runs.end_request(asked.request_id, counts)
    database.summaries.runs.request(DAY, DAY, None)
    assert database.summaries.runs.interrupt_requests() == 1
    newest, oldest = database.summaries.runs.requests(Page(limit=5))
    assert newest.state == "interrupted"
    assert (oldest.state, oldest.rows_written, oldest.corrections) == ("done", 7, 2)


def test_pruning_keeps_what_is_recent_and_what_a_correction_names(database: Database) -> None:
    database.store(DAY, facts(row()))
    database.clock.move(100 * 86_400)
    database.store(DAY, facts(row()))
    database.store(DAY, facts(row(events=2)))  # a change of a closed day: a correction
    assert database.summaries.runs.prune(database.clock.now() - timedelta(days=50)) == 1
    database.clock.move(100 * 86_400)
    database.summaries.runs.prune(database.clock.now())
    [kept] = database.summaries.runs.newest()
    assert kept.corrections == 1
    [correction] = database.summaries.runs.corrections()
    assert correction.run_id == kept.run_id


def test_the_schema_of_this_version_is_current(database: Database) -> None:
    assert database.summaries.transactions.schema_is_current()
