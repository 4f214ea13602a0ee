"""The tables of the summaries, as the code reads and writes them; migrations create them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from shared.core.amounts import AMOUNTS

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, aware and in UTC on both sides; SQLite keeps it without its zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _label(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key, nullable=False)


def _day(*, key: bool = False) -> Column[Any]:
    return Column("local_date", Date, primary_key=key, nullable=False)


client_organizations = Table(
    "client_organizations",
    metadata,
    _label("id", key=True),
    _label("name"),
    _label("time_zone"),
    _label("currency"),
    Column("fee_only", Boolean, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
markup_rates = Table(
    "markup_rates",
    metadata,
    Column("organization_id", Text, ForeignKey("client_organizations.id"), primary_key=True),
    Column("valid_from", Date, primary_key=True),
    _count("rate_ppm"),
    Column("changed_at", UtcDateTime, nullable=False),
)
user_assignments = Table(
    "user_assignments",
    metadata,
    Column("id", Integer, primary_key=True),
    _label("external_user"),
    Column("organization_id", Text, ForeignKey("client_organizations.id")),
    Column("valid_from", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    UniqueConstraint("external_user", "valid_from", name="user_assignments_of_a_user"),
    sqlite_autoincrement=True,
)
users = Table(
    "users",
    metadata,
    _label("id", key=True),
    Column("name", Text),
    Column("email", Text),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("erased_at", UtcDateTime),
)
daily_usage = Table(
    "daily_usage",
    metadata,
    _label("organization_id", key=True),
    _day(key=True),
    _label("external_user", key=True),
    _label("model", key=True),
    _label("task", key=True),
    _label("source", key=True),
    *(_count(name) for name in AMOUNTS),
    _count("written_at_seconds"),
    Index("daily_usage_by_date", "local_date"),
    Index(
        "daily_usage_pending",
        "local_date",
        sqlite_where=text("pending > 0"),
        postgresql_where=text("pending > 0"),
    ),
)
unmetered_daily = Table(
    "unmetered_daily",
    metadata,
    _label("organization_id", key=True),
    _day(key=True),
    _label("external_user", key=True),
    _label("model", key=True),
    _label("task", key=True),
    _count("generations"),
    Index("unmetered_daily_by_date", "local_date"),
)
findings = Table(
    "findings",
    metadata,
    _label("organization_id", key=True),
    _day(key=True),
    _label("request_id", key=True),
    _label("kind", key=True),
    _label("detail"),
    Index("findings_by_date", "local_date"),
)
fingerprints = Table(
    "fingerprints",
    metadata,
    Column("bucket", UtcDateTime, primary_key=True),
    _count("events"),
    _count("cost_pico_usd"),
    _count("total_tokens"),
    _count("unmetered"),
)
# An id is never used again: a run takes away only the marks it had read before it read the events.
dirty_days = Table(
    "dirty_days",
    metadata,
    Column("id", Integer, primary_key=True),
    _label("time_zone"),
    _day(),
    _label("reason"),
    Index("dirty_days_by_day", "local_date", "time_zone"),
    sqlite_autoincrement=True,
)
projected_days = Table(
    "projected_days",
    metadata,
    _day(key=True),
    _label("time_zone", key=True),
    Column("projected_at", UtcDateTime, nullable=False),
)
batch_runs = Table(
    "batch_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("local_date", Date),
    Column("time_zone", Text),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("was_resolved", Boolean, nullable=False),
    _count("organizations"),
    _count("events_read"),
    _count("rows_written"),
    _count("corrections"),
    Column("allow_shrink", Text),
    Column("error", Text),
    _count("attempts"),
    Index("batch_runs_by_day", "local_date", "time_zone"),
    sqlite_autoincrement=True,
)
corrections = Table(
    "corrections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("batch_runs.id"), nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    _label("organization_id"),
    _day(),
    _label("external_user"),
    _label("model"),
    _label("task"),
    _label("source"),
    _label("why"),
    *(Column(f"old_{name}", BigInteger) for name in AMOUNTS),
    *(Column(f"new_{name}", BigInteger) for name in AMOUNTS),
    Index("corrections_by_date", "local_date"),
    sqlite_autoincrement=True,
)
organization_keys = Table(
    "organization_keys",
    metadata,
    Column("api_key_hash", Text, primary_key=True),
    Column("organization_id", Text, ForeignKey("client_organizations.id"), nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)
exchange_rates = Table(
    "exchange_rates",
    metadata,
    Column("currency", Text, primary_key=True),
    Column("local_date", Date, primary_key=True),
    Column("rate_nano", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)
manual_records = Table(
    "manual_records",
    metadata,
    Column("idempotency_key", Text, primary_key=True),
    Column("content_digest", Text, nullable=False),
    Column("event_json", Text, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)
batch_requests = Table(
    "batch_requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("start_date", Date, nullable=False),
    Column("end_date", Date, nullable=False),
    Column("allow_shrink", Text),
    Column("state", Text, nullable=False),
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("days", "failed_days", "rows_written", "corrections")
    ),
    Column("error", Text),
    sqlite_autoincrement=True,
)
