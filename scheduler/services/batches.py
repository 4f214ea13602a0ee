"""Batches: ask for a projection, and see how all projections went."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from scheduler.monitoring.heartbeat import ScheduleLine
from scheduler.process.recompute_queue import RecomputeQueue
from scheduler.process.running import RunningSidecar
from scheduler.services.inputs import Day, Input, check_span
from shared.summary_db.reports import Page
from shared.summary_db.runs import BatchRequest, BatchRun

_RUNS_MAX = 10_000

Reason = Annotated[str, StringConstraints(strict=True, pattern=r"^[ -~]{1,200}$")]


class NewBatch(Input):
    """Which local days to project, both ends included."""

    start: Day
    end: Day
    allow_shrink: Reason | None = Field(
        default=None, description="why there may be fewer events than were known; goes on record"
    )


@dataclass(frozen=True, kw_only=True)
class ProjectedRun:
    """One projected day of one time zone; without a day the run failed before one was known."""

    run_id: int
    local_date: date | None
    time_zone: str | None
    started_at: datetime
    ended_at: datetime
    seconds: float
    success: bool
    was_resolved: bool
    organizations: int
    events_read: int
    rows_written: int
    corrections: int
    allow_shrink: str | None
    error: str | None
    attempts: int


@dataclass(frozen=True, kw_only=True)
class BatchStatus:
    """Requests and runs, the newest first, and the schedule."""

    is_running: bool
    days_waiting: int
    requests: list[BatchRequest]
    runs: list[ProjectedRun]
    jobs: list[ScheduleLine]


def ask_batch(queue: RecomputeQueue, new: NewBatch) -> BatchRequest:
    """Project local days in the background; the returned record later gets its counts."""
    check_span(new.start, new.end)
    return queue.enqueue(new.start, new.end, new.allow_shrink)


def batch_status(sidecar: RunningSidecar, page: Page) -> BatchStatus:
    """Return one page of requests and of runs, what waits, and the schedule."""
    requests = list(sidecar.summaries.runs.requests(page))
    runs = sidecar.summaries.runs.newest(min(page.offset + page.limit, _RUNS_MAX))
    return BatchStatus(
        is_running=any(each.state == "running" for each in requests),
        days_waiting=len(sidecar.summaries.days.dirty_days()),
        requests=requests,
        runs=[_projected(each) for each in runs[page.offset :]],
        jobs=sidecar.schedule(),
    )


def _projected(run: BatchRun) -> ProjectedRun:
    values = dict(vars(run))
    day = values.pop("day")
    return ProjectedRun(
        **values,
        local_date=day.local_date if day else None,
        time_zone=day.time_zone if day else None,
        seconds=(run.ended_at - run.started_at).total_seconds(),
    )
