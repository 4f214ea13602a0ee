"""Create the facts of a day and what tells which days to recompute."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SUMS = (
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
    "written_at_seconds",
)
_GRAIN = ("external_user", "model", "task", "source")


def upgrade() -> None:
    """Create the tables."""
    _create_facts("daily_usage", _GRAIN, _counts(*_SUMS))
    _create_facts("unmetered_daily", _GRAIN[:3], _counts("generations"))
    detail = [sa.Column("detail", sa.Text, nullable=False)]
    _create_facts("findings", ("request_id", "kind"), detail)
    op.create_table(
        "fingerprints",
        sa.Column("bucket", sa.DateTime(timezone=True), primary_key=True),
        *_counts("events", "cost_pico_usd", "total_tokens"),
    )
    op.create_table(
        "dirty_days",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("time_zone", sa.Text, nullable=False),
        sa.Column("local_date", sa.Date, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("dirty_days_by_day", "dirty_days", ["local_date", "time_zone"])
    op.create_table(
        "projected_days",
        sa.Column("local_date", sa.Date, primary_key=True),
        sa.Column("time_zone", sa.Text, primary_key=True),
        sa.Column("projected_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Drop the tables: the summaries can be projected again, what a person entered is in 0002."""
    for name in (
        "projected_days",
        "dirty_days",
        "fingerprints",
        "findings",
        "unmetered_daily",
        "daily_usage",
    ):
        op.drop_table(name)


def _create_facts(name: str, grain: tuple[str, ...], columns: list[sa.Column[Any]]) -> None:
    op.create_table(
        name,
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("local_date", sa.Date, primary_key=True),
        *(sa.Column(label, sa.Text, primary_key=True) for label in grain),
        *columns,
    )
    op.create_index(f"{name}_by_date", name, ["local_date"])


def _counts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
