"""The books about the projection: what ran, what failed, and what was corrected."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from shared.core.amounts import AMOUNTS, Amounts
from shared.core.days import ZoneDay
from shared.projection.audit import Correction
from shared.projection.port import BatchRun, RecordedCorrection
from shared.projection.summary import SummaryKey
from shared.summary_db.schema import batch_runs, corrections

_KEY = ("organization_id", "local_date", "external_user", "model", "task", "source")


def insert_run(connection: Connection, run: BatchRun) -> int:
    """Record a run and return its id; `run_id` of the run is ignored."""
    values = {name: value for name, value in asdict(run).items() if name not in ("run_id", "day")}
    day = run.day
    place = {
        "local_date": day.local_date if day else None,
        "time_zone": day.time_zone if day else None,
    }
    result = connection.execute(
        insert(batch_runs).values(values | place).returning(batch_runs.c.id)
    )
    return int(result.scalar_one())


def record_failure(
    connection: Connection, day: ZoneDay | None, started_at: datetime, now: datetime, error: str
) -> int:
    """Record a failure, or count up the last run of the day when it failed in the same way."""
    same_day = (
        batch_runs.c.local_date.is_(None)
        if day is None
        else (batch_runs.c.local_date == day.local_date) & (batch_runs.c.time_zone == day.time_zone)
    )
    last = connection.execute(
        select(batch_runs).where(same_day).order_by(batch_runs.c.id.desc()).limit(1)
    ).first()
    if last is not None and not last.success and last.error == error:
        again = update(batch_runs).where(batch_runs.c.id == last.id)
        connection.execute(again.values(ended_at=now, attempts=last.attempts + 1))
        return int(last.attempts) + 1
    failed = BatchRun(
        run_id=0, day=day, started_at=started_at, ended_at=now, success=False, error=error
    )
    insert_run(connection, failed)
    return 1


def insert_corrections(
    connection: Connection, run_id: int, found: Sequence[Correction], now: datetime
) -> None:
    """Record what a run has corrected."""
    rows = [
        {"run_id": run_id, "recorded_at": now, "why": each.why}
        | asdict(each.key)
        | _columns("old", each.old)
        | _columns("new", each.new)
        for each in found
    ]
    if rows:
        connection.execute(insert(corrections), rows)


def read_runs(connection: Connection, limit: int) -> list[BatchRun]:
    """Return the newest runs first."""
    rows = connection.execute(select(batch_runs).order_by(batch_runs.c.id.desc()).limit(limit))
    return [_run(row) for row in rows]


def read_corrections(connection: Connection, limit: int) -> list[RecordedCorrection]:
    """Return the newest corrections first."""
    rows = connection.execute(select(corrections).order_by(corrections.c.id.desc()).limit(limit))
    return [_correction(row) for row in rows]


def _run(row: Row[Any]) -> BatchRun:
    values = dict(row._mapping)
    day, zone = values.pop("local_date"), values.pop("time_zone")
    return BatchRun(
        run_id=values.pop("id"), day=ZoneDay(day, zone) if day and zone else None, **values
    )


def _correction(row: Row[Any]) -> RecordedCorrection:
    correction = Correction(
        key=SummaryKey(**{name: row._mapping[name] for name in _KEY}),
        old=_read_amounts("old", row),
        new=_read_amounts("new", row),
        why=row.why,
    )
    return RecordedCorrection(row.recorded_at, row.run_id, correction)


def _columns(side: str, amounts: Amounts | None) -> dict[str, int | None]:
    return {
        f"{side}_{name}": None if amounts is None else getattr(amounts, name) for name in AMOUNTS
    }


def _read_amounts(side: str, row: Row[Any]) -> Amounts | None:
    if row._mapping[f"{side}_events"] is None:
        return None
    return Amounts(**{name: row._mapping[f"{side}_{name}"] for name in AMOUNTS})
