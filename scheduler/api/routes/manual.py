"""Route: a record that a person or a script enters by hand."""

from fastapi import APIRouter

from scheduler.api.deps import SidecarDep
from scheduler.ingest.ingest import ManualRecord, RecordedEvent

router = APIRouter(tags=["recording"])


@router.post("/manual-record")
def manual_record(body: ManualRecord, sidecar: SidecarDep) -> RecordedEvent:
    """Book usage by hand; the answer comes when it is durable."""
    return sidecar.ingest.manual(body)
