"""Routes: projections that a person asks for, and how all projections went."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field, StrictBool

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import Paging
from scheduler.services import batches as service
from scheduler.services.batches import BatchStatus, NewBatch
from scheduler.services.inputs import Day, Input
from shared.core.days import ONE_DAY, local_day
from shared.summary_db.reports import Page
from shared.summary_db.runs import BatchRequest

router = APIRouter(tags=["batches"])
original_router = APIRouter(tags=["routes of the original system"])


class OriginalBatch(Input):
    """The original system's body; every run reprocesses, so `force_reprocess` changes nothing."""

    processing_date: Day | None = Field(default=None, description="default: yesterday")
    force_reprocess: StrictBool = True


@router.post("/batches", status_code=202)
def trigger_batch(body: NewBatch, sidecar: SidecarDep) -> BatchRequest:
    """Project local days in the background; the answer is its record, which ends with counts."""
    return service.ask_batch(sidecar.recompute_queue, body)


@router.get("/batches")
def batch_status(sidecar: SidecarDep, paging: Annotated[Paging, Depends()]) -> BatchStatus:
    """How projections went and what waits."""
    return service.batch_status(sidecar, Page(limit=paging.limit, offset=paging.offset))


@original_router.post("/admin/trigger-batch", status_code=202)
def original_trigger(body: OriginalBatch, sidecar: SidecarDep) -> BatchRequest:
    """Project one local day in the background: the given one, or yesterday."""
    today = local_day(sidecar.clock.now(), sidecar.settings.usage_timezone)
    day = body.processing_date or today - ONE_DAY
    return service.ask_batch(sidecar.recompute_queue, NewBatch(start=day, end=day))


@original_router.get("/admin/batch-status")
def original_status(sidecar: SidecarDep) -> BatchStatus:
    """How projections went and what waits."""
    return service.batch_status(sidecar, Page(limit=20))
