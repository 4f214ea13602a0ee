"""The initial schema."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_AMOUNTS = (
    "events",
    "pending",
    "estimated",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "raw_pico_usd",
    "upstream_pico_usd",
    "estimated_pico_usd",
    "billed_pico_usd",
)
_ORGANIZATION = "client_organizations.id"
_PROVIDERS = {
    "sqlite": "CASE WHEN instr(model, '/') > 0"
    " THEN substr(model, 1, instr(model, '/') - 1) ELSE model END",
    "postgresql": "split_part(model, '/', 1)",
}
_VIEWS = ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage")
_TABLES = (
    "client_organizations",
    "markup_rates",
    "organization_keys",
    "user_assignments",
    "users",
    "daily_usage",
    "unmetered_daily",
    "findings",
    "fingerprints",
    "dirty_days",
    "projected_days",
    "batch_requests",
    "batch_runs",
    "corrections",
    "exchange_rates",
    "manual_records",
)


def upgrade() -> None:
    """Create tables and views."""
    _create_organizations()
    _create_users()
    _create_facts()
    _create_dirty_days()
    _create_runs()
    _create_entries()
    _create_views()


def downgrade() -> None:
    """Drop views and tables."""
    for name in _VIEWS:
        op.execute(f"DROP VIEW {name}")
    for name in reversed(_TABLES):
        op.drop_table(name)


def _create_organizations() -> None:
    op.create_table(
        "client_organizations",
        _key("id", sa.Text),
        *_texts("name", "time_zone", "currency"),
        sa.Column("fee_only", sa.Boolean, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        _instant("created_at"),
    )
    op.create_table(
        "markup_rates",
        sa.Column("organization_id", sa.Text, sa.ForeignKey(_ORGANIZATION), primary_key=True),
        _key("valid_from", sa.Date),
        *_counts("rate_ppm"),
        _instant("changed_at"),
    )
    op.create_table(
        "organization_keys",
        _key("api_key_hash", sa.Text),
        sa.Column("organization_id", sa.Text, sa.ForeignKey(_ORGANIZATION), nullable=False),
        _instant("changed_at"),
    )


def _create_users() -> None:
    op.create_table(
        "user_assignments",
        _key("id", sa.Integer),
        *_texts("external_user"),
        sa.Column("organization_id", sa.Text, sa.ForeignKey(_ORGANIZATION)),
        _instant("valid_from"),
        _instant("changed_at"),
        sa.UniqueConstraint("external_user", "valid_from", name="user_assignments_of_a_user"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "users",
        _key("id", sa.Text),
        sa.Column("name", sa.Text),
        sa.Column("email", sa.Text),
        _instant("seen_at"),
        sa.Column("erased_at", sa.DateTime(timezone=True)),
    )


def _create_facts() -> None:
    usage = ("external_user", "model", "task")
    _create_day_table("daily_usage", (*usage, "source"), _counts(*_AMOUNTS, "written_at_seconds"))
    pending = sa.text("pending > 0")
    op.create_index(
        "daily_usage_pending",
        "daily_usage",
        ["local_date"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
    _create_day_table("unmetered_daily", usage, _counts("generations"))
    _create_day_table("findings", ("request_id", "kind"), _texts("detail"))


def _create_day_table(name: str, grain: tuple[str, ...], columns: list[sa.Column[Any]]) -> None:
    op.create_table(
        name,
        _key("organization_id", sa.Text),
        _key("local_date", sa.Date),
        *(_key(label, sa.Text) for label in grain),
        *columns,
    )
    op.create_index(f"{name}_by_date", name, ["local_date"])


def _create_dirty_days() -> None:
    op.create_table(
        "fingerprints",
        _key("bucket", sa.DateTime(timezone=True)),
        *_counts("events", "cost_pico_usd", "total_tokens", "unmetered"),
    )
    op.create_table(
        "dirty_days",
        _key("id", sa.Integer),
        *_texts("time_zone"),
        sa.Column("local_date", sa.Date, nullable=False),
        *_texts("reason"),
        sqlite_autoincrement=True,
    )
    op.create_index("dirty_days_by_day", "dirty_days", ["local_date", "time_zone"])
    op.create_table(
        "projected_days",
        _key("local_date", sa.Date),
        _key("time_zone", sa.Text),
        _instant("projected_at"),
    )


def _create_runs() -> None:
    op.create_table(
        "batch_requests",
        _key("id", sa.Integer),
        _instant("asked_at"),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("start_date", sa.Date, nullable=False),
        sa.Column("end_date", sa.Date, nullable=False),
        sa.Column("allow_shrink", sa.Text),
        *_texts("state"),
        *_counts("days", "failed_days", "rows_written", "corrections"),
        sa.Column("error", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "batch_runs",
        _key("id", sa.Integer),
        sa.Column("local_date", sa.Date),
        sa.Column("time_zone", sa.Text),
        _instant("started_at"),
        _instant("ended_at"),
        sa.Column("success", sa.Boolean, nullable=False),
        sa.Column("was_resolved", sa.Boolean, nullable=False),
        *_counts("organizations", "events_read", "rows_written", "corrections"),
        sa.Column("allow_shrink", sa.Text),
        sa.Column("error", sa.Text),
        *_counts("attempts"),
        sqlite_autoincrement=True,
    )
    op.create_index("batch_runs_by_day", "batch_runs", ["local_date", "time_zone"])
    op.create_table(
        "corrections",
        _key("id", sa.Integer),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("batch_runs.id"), nullable=False),
        _instant("recorded_at"),
        *_texts("organization_id"),
        sa.Column("local_date", sa.Date, nullable=False),
        *_texts("external_user", "model", "task", "source", "why"),
        *(sa.Column(f"old_{name}", sa.BigInteger) for name in _AMOUNTS),
        *(sa.Column(f"new_{name}", sa.BigInteger) for name in _AMOUNTS),
        sqlite_autoincrement=True,
    )
    op.create_index("corrections_by_date", "corrections", ["local_date"])


def _create_entries() -> None:
    op.create_table(
        "exchange_rates",
        _key("currency", sa.Text),
        _key("local_date", sa.Date),
        *_counts("rate_nano"),
        *_texts("source"),
        _instant("changed_at"),
    )
    op.create_table(
        "manual_records",
        _key("idempotency_key", sa.Text),
        *_texts("content_digest", "event_json"),
        _instant("recorded_at"),
    )


def _create_views() -> None:
    """Give the original system's tables back as views, so that two totals cannot disagree."""
    day = "organization_id AS client_org_id, local_date AS usage_date"
    op.execute(f"""
        CREATE VIEW client_daily_usage AS
        SELECT {_id()} AS id, {day}, {_sums()},
            (
                SELECT each.model FROM daily_usage AS each
                WHERE each.organization_id = daily_usage.organization_id
                    AND each.local_date = daily_usage.local_date
                GROUP BY each.model ORDER BY SUM(each.total_tokens) DESC, each.model LIMIT 1
            ) AS primary_model,
            COUNT(DISTINCT external_user) AS unique_users,
            {_times()}
        FROM daily_usage GROUP BY organization_id, local_date
    """)  # noqa: S608 - put together from constants
    op.execute(f"""
        CREATE VIEW client_user_daily_usage AS
        SELECT {_id("external_user")} AS id, {day},
            external_user AS user_id, external_user AS openrouter_user_id, {_sums()}, {_times()}
        FROM daily_usage GROUP BY organization_id, local_date, external_user
    """)  # noqa: S608 - put together from constants
    provider = _PROVIDERS[op.get_bind().dialect.name]
    op.execute(f"""
        CREATE VIEW client_model_daily_usage AS
        SELECT {_id("model")} AS id, {day},
            model AS model_name, {provider} AS provider, {_sums()}, {_times()}
        FROM daily_usage GROUP BY organization_id, local_date, model
    """)  # noqa: S608 - put together from constants


def _key(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True)


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _instant(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _id(*columns: str) -> str:
    parts = ("organization_id", *columns, "CAST(local_date AS VARCHAR)")
    return " || ':' || ".join(parts)


def _sums() -> str:
    return (
        "CAST(SUM(total_tokens) AS BIGINT) AS total_tokens, "
        "CAST(SUM(events) AS BIGINT) AS total_requests, "
        f"{_usd('raw_pico_usd')} AS raw_cost, {_usd('billed_pico_usd')} AS markup_cost"
    )


def _usd(column: str) -> str:
    # Dollars and picodollars are added apart: a sum of picodollars may not fit 64 bits. The old
    # columns were floats, and old dashboards read them so.
    whole, rest = f"SUM({column} / 1000000000000)", f"SUM({column} % 1000000000000)"
    return f"CAST({whole} + {rest} / 1000000000000.0 AS DOUBLE PRECISION)"


def _times() -> str:
    return "MIN(written_at_seconds) AS created_at, MAX(written_at_seconds) AS updated_at"
