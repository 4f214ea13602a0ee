"""Files as answers: what an export writes is sent while it is made."""

from fastapi.responses import StreamingResponse

from scheduler.services.exports import ExportFile


def file_response(file: ExportFile) -> StreamingResponse:
    disposition = {"Content-Disposition": f'attachment; filename="{file.name}"'}
    return StreamingResponse(file.text, media_type=file.media_type, headers=disposition)
