"""Routes: figures and events as files, CSV that no spreadsheet takes for formulas, or JSON."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from json import dumps
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import AmountsBody, ExportFormat
from scheduler.api.routes.events import EventBody, bill_reader, event_body
from scheduler.api.routes.summaries import Wanted, line_body, unique
from scheduler.reports.bills import Unsettled
from shared.summary_db.port import Grouping

router = APIRouter(prefix="/exports", tags=["exports"])

Format = Annotated[ExportFormat, Query(description="csv or json")]
FileRow = dict[str, Any]
# A cell that begins so is a formula to a spreadsheet; an apostrophe makes it text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
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
    found, groups = wanted.filter(), unique(group_by)
    names = sidecar.summaries.user_names() if "external_user" in groups else {}
    columns = [*groups, *(["user_name"] if names else []), *AmountsBody.model_fields]
    rows: list[FileRow] = []
    for line in sidecar.books.usage(found, groups):
        body = line_body(line, names)
        rows.append(body.group | {"user_name": body.user_name} | body.amounts.model_dump())
    return _file("summaries", format, columns, iter(rows))


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
    reader, found = bill_reader(sidecar), wanted.filter()
    bills = reader.unsettled(found, cost) if cost else reader.all(found)
    first = list(_first(bills))  # so that a store that cannot be read is an error, not a short file
    rows = (event_body(bill).model_dump(mode="json") for part in (first, bills) for bill in part)
    return _file("events", format, list(EventBody.model_fields), rows)


def safe_cell(value: object) -> object:
    """Return what a cell may hold: texts that a spreadsheet would run become plain texts."""
    is_formula = isinstance(value, str) and value.startswith(_FORMULA_STARTS)
    return f"'{value}" if is_formula else value


def _first(rows: Iterator[Any]) -> Iterator[Any]:
    for row in rows:
        yield row
        return


def _file(
    name: str,
    format: ExportFormat,
    columns: Sequence[str],
    rows: Iterator[FileRow],
) -> StreamingResponse:
    lines = _csv_lines(columns, rows) if format == "csv" else _json_lines(columns, rows)
    disposition = {"Content-Disposition": f'attachment; filename="{name}.{format}"'}
    return StreamingResponse(lines, media_type=_TYPES[format], headers=disposition)


def _csv_lines(columns: Sequence[str], rows: Iterator[FileRow]) -> Iterator[str]:
    buffer = StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([safe_cell(row.get(column)) for column in columns])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _json_lines(columns: Sequence[str], rows: Iterator[FileRow]) -> Iterator[str]:
    separator = "["
    for row in rows:
        yield separator + dumps({column: row.get(column) for column in columns})
        separator = ",\n"
    yield "[]\n" if separator == "[" else "]\n"
