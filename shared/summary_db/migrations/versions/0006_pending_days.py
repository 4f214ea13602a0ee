"""Find the days with pending events at once: health asks for the oldest one at every look."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_PENDING = sa.text("pending > 0")


def upgrade() -> None:
    """Add the index; it holds the few rows that are pending and no others."""
    op.create_index(
        "daily_usage_pending",
        "daily_usage",
        ["local_date"],
        sqlite_where=_PENDING,
        postgresql_where=_PENDING,
    )


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("daily_usage_pending", "daily_usage")
