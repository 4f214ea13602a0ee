"""Page: usage by any side and span, from the organization down to the day, and as a file."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep, file_response
from scheduler.dashboard.filters import (
    SIDES,
    SPANS,
    PageFilterDep,
    drill_query,
    filter_values,
    parse_grouping,
    today_of,
)
from scheduler.dashboard.pages import render, write_query
from scheduler.dashboard.report_cache import ReportCacheDep
from scheduler.dashboard.views.overview import largest_first
from scheduler.reports.bills import Unsettled
from scheduler.services.exports import ExportFormat, export_events, export_summaries
from shared.core.amounts import Amounts
from shared.summary_db.reports import Grouping, UsageLine

router = APIRouter()

_LINES_PER_PAGE = 100
Offset = Annotated[int, Query(ge=0, le=10**6)]


@router.get("/usage")
def usage(
    request: Request,
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    shown: PageFilterDep,
    by: str | None = None,
    sort: str = "",
    offset: Offset = 0,
) -> Response:
    """Show usage by one grouping, with a link to what each line adds up."""
    today = today_of(sidecar)
    shown = shown.within(today)
    grouping = parse_grouping(by) or shown.next_grouping()
    lines = reports.usage(shown.filter(), (grouping,))
    is_by_amount = (sort or ("amount" if grouping in SIDES else "name")) == "amount"
    if is_by_amount:
        lines = largest_first(lines)
    query, piece = shown.query(), lines[offset : offset + _LINES_PER_PAGE]
    values = {
        **filter_values(shown, today, sidecar),
        "by": grouping,
        "groupings": {**SIDES, **SPANS},
        "is_by_amount": is_by_amount,
        "lines": piece,
        "links": _links(query, grouping, piece),
        "count_of_lines": len(lines),
        "offset": offset,
        "page_size": _LINES_PER_PAGE,
        "total": sum((line.amounts for line in lines), Amounts()),
        "clients": sidecar.summaries.organizations.directory().organizations,
    }
    return render(request, "usage.html", values)


@router.get("/download/{what}.{format}")
def download(
    what: str,
    format: ExportFormat,
    sidecar: SidecarDep,
    shown: PageFilterDep,
    by: str | None = None,
    cost: Unsettled | None = None,
) -> Response:
    """Return what a page shows as a file, the same as the API's export."""
    shown = shown.within(today_of(sidecar))
    wanted = shown.filter()
    if what == "events":
        return file_response(export_events(sidecar, wanted, format, cost))
    grouping = parse_grouping(by) or shown.next_grouping()
    return file_response(export_summaries(sidecar, wanted, format, [grouping]))


def _links(query: dict[str, Any], by: Grouping, lines: Sequence[UsageLine]) -> list[str]:
    """Return where each line leads: one step further down, a day to its single events."""
    page = "/ui/events" if by == "day" else "/ui/usage"
    return [page + write_query(drill_query(query, by, line.group[by])) for line in lines]
