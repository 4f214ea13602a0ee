"""Create organizations, rates, assignments and users, and the books about the projection."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
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


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "client_organizations",
        sa.Column("id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("name", "time_zone", "currency")),
        sa.Column("fee_only", sa.Boolean, nullable=False),
        _instant("created_at"),
    )
    op.create_table(
        "markup_rates",
        sa.Column("organization_id", sa.Text, sa.ForeignKey(_ORGANIZATION), primary_key=True),
        sa.Column("valid_from", sa.Date, primary_key=True),
        sa.Column("rate_ppm", sa.BigInteger, nullable=False),
        _instant("changed_at"),
    )
    op.create_table(
        "user_assignments",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("external_user", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, sa.ForeignKey(_ORGANIZATION)),
        _instant("valid_from"),
        _instant("changed_at"),
        sa.UniqueConstraint("external_user", "valid_from", name="user_assignments_of_a_user"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("email", sa.Text),
        _instant("seen_at"),
        sa.Column("erased_at", sa.DateTime(timezone=True)),
    )
    _create_books()


def downgrade() -> None:
    """Drop the tables."""
    for name in (
        "corrections",
        "batch_runs",
        "users",
        "user_assignments",
        "markup_rates",
        "client_organizations",
    ):
        op.drop_table(name)


def _create_books() -> None:
    op.create_table(
        "batch_runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("local_date", sa.Date),
        sa.Column("time_zone", sa.Text),
        _instant("started_at"),
        _instant("ended_at"),
        sa.Column("success", sa.Boolean, nullable=False),
        sa.Column("was_resolved", sa.Boolean, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("organizations", "events_read", "rows_written", "corrections")
        ),
        sa.Column("allow_shrink", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("batch_runs_by_day", "batch_runs", ["local_date", "time_zone"])
    labels = ("external_user", "model", "task", "source", "why")
    op.create_table(
        "corrections",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("batch_runs.id"), nullable=False),
        _instant("recorded_at"),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("local_date", sa.Date, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in labels),
        *(sa.Column(f"old_{name}", sa.BigInteger) for name in _AMOUNTS),
        *(sa.Column(f"new_{name}", sa.BigInteger) for name in _AMOUNTS),
        sqlite_autoincrement=True,
    )
    op.create_index("corrections_by_date", "corrections", ["local_date"])


def _instant(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)
