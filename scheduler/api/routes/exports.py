"""Routes: figures and events as files, CSV or JSON."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from scheduler.api.deps import SidecarDep, file_response
from scheduler.api.routes.summaries import Wanted
from scheduler.reports.bills import Unsettled
from scheduler.services import exports as service
from scheduler.services.exports import ExportFormat
from shared.summary_db.reports import Grouping

router = APIRouter(prefix="/exports", tags=["exports"])

Format = Annotated[ExportFormat, Query(description="csv or json")]
_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the file",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
        },
    }
}


@router.get("/summaries", response_class=StreamingResponse, responses=_FILES)
def export_summaries(
    sidecar: SidecarDep,
    wanted: Annotated[Wanted, Depends()],
    format: Format = "csv",
    group_by: Annotated[list[Grouping], Query()] = ["organization_id", "day"],  # noqa: B006
) -> StreamingResponse:
    """Figures as a file, all of them."""
    return file_response(service.export_summaries(sidecar, wanted.filter(), format, group_by))


@router.get("/events", response_class=StreamingResponse, responses=_FILES)
def export_events(
    sidecar: SidecarDep,
    wanted: Annotated[Wanted, Depends()],
    format: Format = "csv",
    cost: Annotated[Unsettled | None, Query(description="only bills of unknown cost")] = None,
) -> StreamingResponse:
    """The bills behind a figure as a file, all of them.

    Those of unknown cost alone come with the newest day first.
    """
    return file_response(service.export_events(sidecar, wanted.filter(), format, cost))
