"""The tables of what an admin enters; they stand in the database of summaries."""

from sqlalchemy import BigInteger, Column, Date, ForeignKey, Integer, Table, Text

from shared.summary_db.schema import UtcDateTime, metadata

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
