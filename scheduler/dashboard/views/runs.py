"""Pages: projections that ran or were requested, and corrections of final days."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import Paging
from scheduler.dashboard.filters import today_of
from scheduler.dashboard.forms import Confirmed, Text, confirm, redirect
from scheduler.dashboard.pages import render
from scheduler.dashboard.report_cache import ReportCacheDep
from scheduler.process.running import RunningSidecar
from scheduler.services.batches import NewBatch, ask_batch, batch_status
from scheduler.services.inputs import check_span, read_input
from shared.core.days import ONE_DAY
from shared.summary_db.reports import Page, UsageFilter
from shared.summary_db.runs import BatchRequest

router = APIRouter()

_PAGE = "/ui/runs"
_RUNS_SHOWN = 40
_RUNS_COUNTED = 10_000
_CORRECTIONS_PER_PAGE = 50


@dataclass(frozen=True)
class BatchProgress:
    """How far a requested projection is, in days of all zones."""

    request: BatchRequest
    done: int
    days: int


@router.get("/runs")
def runs(request: Request, sidecar: SidecarDep) -> Response:
    status = batch_status(sidecar, Page(limit=_RUNS_SHOWN))
    running = [each for each in status.requests if each.state == "running"]
    values = {
        "status": status,
        "progress": [_progress(sidecar, each) for each in running],
        "today": today_of(sidecar),
        "yesterday": today_of(sidecar) - ONE_DAY,
    }
    return render(request, "runs.html", values)


@router.post("/runs")
def run(
    request: Request,
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    start: Text = "",
    end: Text = "",
    allow_shrink: Text = "",
    confirmed: Confirmed = False,
) -> Response:
    """Project days in the background; allowing fewer events than known needs confirmation."""
    body = read_input(NewBatch, start=start, end=end, allow_shrink=allow_shrink)
    check_span(body.start, body.end)
    if body.allow_shrink and not confirmed:
        total = reports.total(UsageFilter(start=body.start, end=body.end))
        sentences = [
            f"{(body.end - body.start).days + 1} days with {total.events:,} booked events will be "
            "replaced by what the event store holds now, even if that is less.",
            f"The reason goes on record: {body.allow_shrink}",
        ]
        fields = {"start": start, "end": end, "allow_shrink": allow_shrink}
        return confirm(request, "Project days, fewer events allowed", sentences, fields, _PAGE)
    ask_batch(sidecar.recompute_queue, body)
    return redirect(_PAGE)


@router.get("/corrections")
def corrections(
    request: Request, sidecar: SidecarDep, offset: Annotated[int, Query(ge=0, le=10**5)] = 0
) -> Response:
    """Show every change of a final day, before and after."""
    paging = Paging(limit=_CORRECTIONS_PER_PAGE, offset=offset)
    found = sidecar.summaries.runs.corrections(offset + paging.limit + 1)[offset:]
    lines, next_offset = paging.cut(found)
    values = {
        "lines": lines,
        "next_offset": next_offset,
        "names": sidecar.summaries.users.names(),
    }
    return render(request, "corrections.html", values)


def _progress(sidecar: RunningSidecar, asked: BatchRequest) -> BatchProgress:
    zones = len(sidecar.summaries.organizations.directory().zones())
    ended = {
        run.day
        for run in sidecar.summaries.runs.newest(_RUNS_COUNTED)
        if run.day is not None
        and run.started_at >= asked.asked_at
        and asked.start <= run.day.local_date <= asked.end
    }
    return BatchProgress(asked, len(ended), zones * ((asked.end - asked.start).days + 1))
