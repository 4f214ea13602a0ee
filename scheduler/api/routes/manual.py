"""Route: a record that a person or a script enters by hand."""

from fastapi import APIRouter

from scheduler.api.deps import SidecarDep
from scheduler.services.manual_records import BookedEvent, NewManualRecord, book_manual_record

router = APIRouter(tags=["recording"])


@router.post("/manual-record")
def manual_record(body: NewManualRecord, sidecar: SidecarDep) -> BookedEvent:
    """Book usage by hand; the answer comes when it is durable."""
    return book_manual_record(sidecar.ingest, body, sidecar.settings.usage_client_org)
