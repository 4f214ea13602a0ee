"""Exports: figures and events as files, CSV that no spreadsheet takes for formulas, or JSON."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain, islice
from json import dumps
from typing import Any, Literal

from scheduler.process.running import RunningSidecar
from scheduler.reports.bills import Unsettled
from scheduler.services.events import EventBody, bill_reader, event_body
from scheduler.services.figures import AmountsBody, figure
from shared.summary_db.reports import Grouping, UsageFilter

ExportFormat = Literal["csv", "json"]
FileRow = dict[str, Any]
# A cell that begins so is a formula to a spreadsheet; an apostrophe makes it text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


@dataclass(frozen=True)
class ExportFile:
    """A file whose text is made while it is read."""

    name: str
    media_type: str
    text: Iterator[str]


def export_summaries(
    sidecar: RunningSidecar, wanted: UsageFilter, format: ExportFormat, group_by: list[Grouping]
) -> ExportFile:
    """Return figures as a file, all of them."""
    groups = list(dict.fromkeys(group_by))
    names = sidecar.summaries.users.names() if "external_user" in groups else {}
    columns = [*groups, *(["user_name"] if names else []), *AmountsBody.model_fields]
    rows: list[FileRow] = []
    for line in sidecar.summaries.reports.usage(wanted, groups):
        found = figure(line, names)
        rows.append(found.group | {"user_name": found.user_name} | found.amounts.model_dump())
    return _file("summaries", format, columns, iter(rows))


def export_events(
    sidecar: RunningSidecar,
    wanted: UsageFilter,
    format: ExportFormat,
    cost: Unsettled | None = None,
) -> ExportFile:
    """Return the bills behind a figure as a file, all of them.

    Those of unknown cost alone come with the newest day first.
    """
    reader = bill_reader(sidecar)
    bills = reader.unsettled(wanted, cost) if cost else reader.all(wanted)
    first = list(islice(bills, 1))  # a store that cannot be read is an error, not a short file
    rows = (event_body(bill).model_dump(mode="json") for bill in chain(first, bills))
    return _file("events", format, list(EventBody.model_fields), rows)


def safe_cell(value: object) -> object:
    """Return what a cell may hold: texts that a spreadsheet would run become plain texts."""
    is_formula = isinstance(value, str) and value.startswith(_FORMULA_STARTS)
    return f"'{value}" if is_formula else value


def _file(
    name: str, format: ExportFormat, columns: Sequence[str], rows: Iterator[FileRow]
) -> ExportFile:
    text = _csv_lines(columns, rows) if format == "csv" else _json_lines(columns, rows)
    return ExportFile(f"{name}.{format}", _TYPES[format], text)


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
