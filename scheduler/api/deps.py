"""What routes and pages share: the sidecar that this app belongs to, and files as answers."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import StreamingResponse

from scheduler.process.running import RunningSidecar
from scheduler.services.exports import ExportFile


def _sidecar_of(request: Request) -> RunningSidecar:
    sidecar = request.app.state.sidecar
    assert isinstance(sidecar, RunningSidecar)
    return sidecar


SidecarDep = Annotated[RunningSidecar, Depends(_sidecar_of)]


def file_response(file: ExportFile) -> StreamingResponse:
    disposition = {"Content-Disposition": f'attachment; filename="{file.name}"'}
    return StreamingResponse(file.text, media_type=file.media_type, headers=disposition)
