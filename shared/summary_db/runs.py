"""Runs of the projection: requested, done, failed, and what they corrected."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from shared.core.amounts import AMOUNTS, Amounts
from shared.core.clock import Clock
from shared.core.days import ZoneDay
from shared.projection.audit import Correction
from shared.projection.summary import SummaryKey
from shared.summary_db.engine import Transactions
from shared.summary_db.reports import Page
from shared.summary_db.schema import batch_requests, batch_runs, corrections

BatchState = Literal["running", "done", "failed", "interrupted"]

_KEY = ("organization_id", "local_date", "external_user", "model", "task", "source")


@dataclass(frozen=True, kw_only=True)
class BatchRun:
    """The record of one attempt to project a day.

    A run without `day` failed before any day was known. `was_resolved` tells whether the events
    were read one by one; `attempts` counts how often the same failure came in a row.
    """

    run_id: int
    day: ZoneDay | None
    started_at: datetime
    ended_at: datetime
    success: bool
    was_resolved: bool = False
    organizations: int = 0
    events_read: int = 0
    rows_written: int = 0
    corrections: int = 0
    allow_shrink: str | None = None
    error: str | None = None
    attempts: int = 1


@dataclass(frozen=True)
class RecordedCorrection:
    """A correction as it was recorded."""

    recorded_at: datetime
    run_id: int
    correction: Correction


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """A projection that a person asked for, from the moment of asking to its counts."""

    request_id: int
    state: BatchState
    asked_at: datetime
    ended_at: datetime | None
    start: date
    end: date
    allow_shrink: str | None
    days: int
    failed_days: int
    rows_written: int
    corrections: int
    error: str | None


@dataclass(frozen=True, kw_only=True)
class BatchCounts:
    """How an asked-for projection ended."""

    days: int
    failed_days: int
    rows_written: int
    corrections: int
    error: str | None


class Runs:
    """Requested projections, the runs of days, and the corrections they made."""

    def __init__(self, db: Transactions, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def request(self, start: date, end: date, allow_shrink: str | None) -> BatchRequest:
        """Record that a projection was requested."""
        values = {
            "asked_at": self._clock.now(),
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
        with self._db.writing() as connection:
            return _request(connection.execute(added).one())

    def end_request(self, request_id: int, counts: BatchCounts) -> None:
        """Record how a requested projection ended; one with an error has failed."""
        ended = {
            "ended_at": self._clock.now(),
            "state": "failed" if counts.error else "done",
        }
        with self._db.writing() as connection:
            connection.execute(
                update(batch_requests)
                .where(batch_requests.c.id == request_id)
                .values(ended | asdict(counts))
            )

    def interrupt_requests(self) -> int:
        """End the requests that a process left behind running; return how many there were."""
        interrupted = (
            update(batch_requests)
            .where(batch_requests.c.state == "running")
            .values(
                state="interrupted",
                ended_at=self._clock.now(),
                error="the sidecar ended before it; ask again",
            )
        )
        with self._db.writing() as connection:
            return connection.execute(interrupted).rowcount

    def requests(self, page: Page) -> list[BatchRequest]:
        """Return the newest requests first."""
        query = select(batch_requests).order_by(batch_requests.c.id.desc())
        with self._db.reading() as connection:
            rows = connection.execute(query.limit(page.limit).offset(page.offset))
            return [_request(row) for row in rows]

    def newest(self, limit: int = 100) -> list[BatchRun]:
        """Return the newest runs first."""
        query = select(batch_runs).order_by(batch_runs.c.id.desc()).limit(limit)
        with self._db.reading() as connection:
            return [_run(row) for row in connection.execute(query)]

    def last_id(self, start: date, end: date) -> int:
        """Return the id of the newest run of these days, 0 without one: they change with it."""
        newest = select(func.max(batch_runs.c.id)).where(
            batch_runs.c.local_date.between(start, end)
        )
        with self._db.reading() as connection:
            return int(connection.scalar(newest) or 0)

    def corrections(self, limit: int = 100) -> list[RecordedCorrection]:
        """Return the newest corrections first."""
        query = select(corrections).order_by(corrections.c.id.desc()).limit(limit)
        with self._db.reading() as connection:
            return [_correction(row) for row in connection.execute(query)]

    def prune(self, before: datetime) -> int:
        """Delete runs and requests that ended before an instant; return how many.

        Corrections are kept for ever, and the runs that they belong to.
        """
        named = select(corrections.c.run_id)
        runs = delete(batch_runs).where(
            batch_runs.c.ended_at < before, batch_runs.c.id.not_in(named)
        )
        requests = delete(batch_requests).where(batch_requests.c.ended_at < before)
        with self._db.writing() as connection:
            return connection.execute(runs).rowcount + connection.execute(requests).rowcount


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


def insert_failure(
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


def _request(row: Row[Any]) -> BatchRequest:
    values = dict(row._mapping)
    return BatchRequest(
        request_id=values.pop("id"),
        start=values.pop("start_date"),
        end=values.pop("end_date"),
        **values,
    )
