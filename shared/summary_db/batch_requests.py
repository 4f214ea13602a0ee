"""Asked-for projections in the database, and what keeps its audit small."""

from datetime import date, datetime
from typing import Any

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from shared.summary_db.admin_schema import batch_requests
from shared.summary_db.engine import MIGRATIONS
from shared.summary_db.port import BatchCounts, BatchRequest, Page
from shared.summary_db.schema import batch_runs, corrections


def insert_request(
    connection: Connection, start: date, end: date, allow_shrink: str | None, now: datetime
) -> BatchRequest:
    """Write down that a projection was asked for, and return it."""
    values = {
        "asked_at": now,
        "start_date": start,
        "end_date": end,
        "allow_shrink": allow_shrink,
        "state": "running",
        "days": 0,
        "failed_days": 0,
        "rows_written": 0,
        "corrections": 0,
    }
    added = insert(batch_requests).values(values).returning(batch_requests)
    return _request(connection.execute(added).one())


def end_request(
    connection: Connection, request_id: int, counts: BatchCounts, now: datetime
) -> None:
    """Write down how a projection ended; one with a failed day has failed."""
    connection.execute(
        update(batch_requests)
        .where(batch_requests.c.id == request_id)
        .values(
            ended_at=now,
            state="failed" if counts.error else "done",
            days=counts.days,
            failed_days=counts.failed_days,
            rows_written=counts.rows_written,
            corrections=counts.corrections,
            error=counts.error,
        )
    )


def interrupt_requests(connection: Connection, now: datetime) -> int:
    """Mark running projections as interrupted; return how many there were."""
    interrupted = connection.execute(
        update(batch_requests)
        .where(batch_requests.c.state == "running")
        .values(state="interrupted", ended_at=now, error="the sidecar ended before it; ask again")
    )
    return interrupted.rowcount


def read_requests(connection: Connection, page: Page) -> list[BatchRequest]:
    """Return the newest first."""
    query = select(batch_requests).order_by(batch_requests.c.id.desc())
    rows = connection.execute(query.limit(page.limit).offset(page.offset))
    return [_request(row) for row in rows]


def prune_audit(connection: Connection, before: datetime) -> int:
    """Delete old runs and requests, those left out that a correction names."""
    named = select(corrections.c.run_id)
    runs = delete(batch_runs).where(batch_runs.c.ended_at < before, batch_runs.c.id.not_in(named))
    requests = delete(batch_requests).where(batch_requests.c.ended_at < before)
    return connection.execute(runs).rowcount + connection.execute(requests).rowcount


def read_last_run(connection: Connection, start: date, end: date) -> int:
    """Return the id of the newest run of these days, 0 without one."""
    of_days = batch_runs.c.local_date.between(start, end)
    return int(connection.scalar(select(func.max(batch_runs.c.id)).where(of_days)) or 0)


def is_current(connection: Connection) -> bool:
    """Tell whether the schema is the one of this version."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == head


def _request(row: Row[Any]) -> BatchRequest:
    values = dict(row._mapping)
    return BatchRequest(
        request_id=values.pop("id"),
        start=values.pop("start_date"),
        end=values.pop("end_date"),
        **values,
    )
