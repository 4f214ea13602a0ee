"""Let fingerprints count unmetered rows: one that arrives alone changes its day too."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; fingerprints that are stored take part from their next projection on."""
    op.add_column(
        "fingerprints", sa.Column("unmetered", sa.BigInteger, nullable=False, server_default="0")
    )


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("fingerprints", "unmetered")
