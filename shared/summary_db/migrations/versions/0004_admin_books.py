"""Create what an admin enters beside organizations: keys, exchange rates, asked-for batches."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and let an organization be inactive."""
    op.add_column(
        "client_organizations",
        sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    )
    op.create_table(
        "organization_keys",
        sa.Column("api_key_hash", sa.Text, primary_key=True),
        sa.Column(
            "organization_id", sa.Text, sa.ForeignKey("client_organizations.id"), nullable=False
        ),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "exchange_rates",
        sa.Column("currency", sa.Text, primary_key=True),
        sa.Column("local_date", sa.Date, primary_key=True),
        sa.Column("rate_nano", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "manual_records",
        sa.Column("idempotency_key", sa.Text, primary_key=True),
        sa.Column("content_digest", sa.Text, nullable=False),
        sa.Column("event_json", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "batch_requests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("start_date", sa.Date, nullable=False),
        sa.Column("end_date", sa.Date, nullable=False),
        sa.Column("allow_shrink", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("days", "failed_days", "rows_written", "corrections")
        ),
        sa.Column("error", sa.Text),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop the tables and the column."""
    for name in ("batch_requests", "manual_records", "exchange_rates", "organization_keys"):
        op.drop_table(name)
    op.drop_column("client_organizations", "is_active")
