"""Routes: projections that a person asks for, and how all projections went."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, StrictBool, StringConstraints

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import Body, Day, Paging, check_span
from scheduler.monitoring.heartbeat import ScheduleLine
from shared.core.days import ONE_DAY, local_day
from shared.projection.port import BatchRun
from shared.summary_db.port import BatchRequest, BatchState, Page

router = APIRouter(tags=["batches"])
original_router = APIRouter(tags=["routes of the original system"])

Reason = Annotated[str, StringConstraints(strict=True, pattern=r"^[ -~]{1,200}$")]


class TriggerBody(Body):
    """Which local days to project, both ends included."""

    start: Day
    end: Day
    allow_shrink: Reason | None = Field(
        default=None, description="why there may be fewer events than were known; goes on record"
    )


class OriginalTriggerBody(Body):
    """The original system's body; every run reprocesses, so `force_reprocess` changes nothing."""

    processing_date: Day | None = Field(default=None, description="default: yesterday")
    force_reprocess: StrictBool = True


class BatchBody(BaseModel):
    """A projection that was asked for."""

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


class RunBody(BaseModel):
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


class BatchStatus(BaseModel):
    """How projections go: the newest first, and the schedule."""

    is_running: bool
    days_waiting: int
    requests: list[BatchBody]
    runs: list[RunBody]
    jobs: list[ScheduleLine]


@router.post("/batches", status_code=202)
def trigger_batch(body: TriggerBody, sidecar: SidecarDep) -> BatchBody:
    """Project local days in the background; the answer is its record, which ends with counts."""
    check_span(body.start, body.end)
    return _batch(sidecar.recompute_queue.enqueue(body.start, body.end, body.allow_shrink))


@router.get("/batches")
def batch_status(sidecar: SidecarDep, paging: Annotated[Paging, Depends()]) -> BatchStatus:
    """How projections went and what waits."""
    page = Page(limit=paging.limit, offset=paging.offset)
    requests = [_batch(each) for each in sidecar.books.batch_requests(page)]
    runs = sidecar.summaries.batch_runs(min(paging.offset + paging.limit, 10_000))
    return BatchStatus(
        is_running=any(each.state == "running" for each in requests),
        days_waiting=len(sidecar.summaries.dirty_days()),
        requests=requests,
        runs=[_run(each) for each in runs[paging.offset :]],
        jobs=sidecar.schedule(),
    )


@original_router.post("/admin/trigger-batch", status_code=202)
def original_trigger(body: OriginalTriggerBody, sidecar: SidecarDep) -> BatchBody:
    """Project one local day in the background: the given one, or yesterday."""
    today = local_day(sidecar.clock.now(), sidecar.settings.usage_timezone)
    day = body.processing_date or today - ONE_DAY
    return _batch(sidecar.recompute_queue.enqueue(day, day))


@original_router.get("/admin/batch-status")
def original_status(sidecar: SidecarDep) -> BatchStatus:
    """How projections went and what waits."""
    return batch_status(sidecar, Paging(limit=20))


def _batch(request: BatchRequest) -> BatchBody:
    return BatchBody(**vars(request))


def _run(run: BatchRun) -> RunBody:
    values = dict(vars(run))
    day = values.pop("day")
    return RunBody(
        **values,
        local_date=day.local_date if day else None,
        time_zone=day.time_zone if day else None,
        seconds=(run.ended_at - run.started_at).total_seconds(),
    )
