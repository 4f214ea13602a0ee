"""Give the original system's tables back as views, so that two totals cannot disagree."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_PROVIDERS = {
    "sqlite": "CASE WHEN instr(model, '/') > 0"
    " THEN substr(model, 1, instr(model, '/') - 1) ELSE model END",
    "postgresql": "split_part(model, '/', 1)",
}


def upgrade() -> None:
    """Create the views."""
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


def downgrade() -> None:
    """Drop the views."""
    for name in ("client_model_daily_usage", "client_user_daily_usage", "client_daily_usage"):
        op.execute(f"DROP VIEW {name}")


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
    """Add dollars and picodollars apart: a sum of picodollars may not fit 64 bits.

    The old columns were floats, and old dashboards read them so; the exact amounts are integers
    in the fact table.
    """
    whole, rest = f"SUM({column} / 1000000000000)", f"SUM({column} % 1000000000000)"
    return f"CAST({whole} + {rest} / 1000000000000.0 AS DOUBLE PRECISION)"


def _times() -> str:
    return "MIN(written_at_seconds) AS created_at, MAX(written_at_seconds) AS updated_at"
