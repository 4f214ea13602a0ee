"""Page: what was spent today and this month, by whom and on what, and how complete that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.dashboard.filters import SIDES, today_of
from scheduler.dashboard.pages import render
from scheduler.dashboard.report_cache import ReportCache, ReportCacheDep
from scheduler.dashboard.spans import (
    WEEKS_KNOWN,
    Span,
    forecast,
    month_so_far,
    same_span_before,
)
from scheduler.dashboard.views.hosts import counters_by_origin
from scheduler.monitoring.health import Health, HealthReport
from scheduler.process.running import RunningSidecar
from scheduler.reports.completeness import read_completeness
from shared.core.amounts import Amounts
from shared.core.days import ONE_DAY
from shared.summary_db.reports import Grouping, UsageFilter, UsageLine

router = APIRouter()

_LINES_SHOWN = 6
_SIDES_SHOWN: tuple[Grouping, ...] = (
    "organization_id",
    "external_user",
    "model",
    "provider",
    "task",
)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The largest lines of one side, and what the others add up to."""

    side: Grouping
    title: str
    lines: Sequence[UsageLine]
    others: int
    rest: Amounts


@router.get("/")
def overview(request: Request, sidecar: SidecarDep, reports: ReportCacheDep) -> Response:
    today = today_of(sidecar)
    month, before = month_so_far(today), same_span_before(today)
    first = min(before.start, today - WEEKS_KNOWN * timedelta(days=7))
    lines = reports.usage(UsageFilter(start=first, end=today), ("day",))
    by_day = {date.fromisoformat(line.group["day"]): line.amounts for line in lines}
    billed = {day: amounts.billed_pico_usd for day, amounts in by_day.items()}
    wanted = UsageFilter(start=month.start, end=month.end)
    month_total = _add_up(by_day, month)
    health: Health = request.app.state.health
    values = {
        "today": today,
        "month": month,
        "before": before,
        "day_total": by_day.get(today, Amounts()),
        "month_total": month_total,
        "before_total": _add_up(by_day, before),
        "forecast": forecast(billed, today, min(by_day, default=today)),
        "days": [(day, by_day.get(day, Amounts())) for day in _days(month)],
        "before_days": [by_day.get(day, Amounts()).billed_pico_usd for day in _days(before)],
        "panels": _panels(reports, wanted),
        "names": sidecar.summaries.users.names(),
        "clients": sidecar.summaries.organizations.directory().organizations,
        **_completeness(sidecar, wanted, month_total, health.report()),
    }
    return render(request, "overview.html", values)


def _add_up(by_day: Mapping[date, Amounts], span: Span) -> Amounts:
    found = [amounts for day, amounts in by_day.items() if span.start <= day <= span.end]
    return sum(found, Amounts())


def largest_first(lines: Sequence[UsageLine]) -> list[UsageLine]:
    return sorted(lines, key=lambda line: -line.amounts.billed_pico_usd)


def _panels(reports: ReportCache, wanted: UsageFilter) -> list[Panel]:
    panels = []
    for side in _SIDES_SHOWN:
        lines = largest_first(reports.usage(wanted, (side,)))
        rest = lines[_LINES_SHOWN:]
        panels.append(
            Panel(
                side=side,
                title=SIDES[side],
                lines=lines[:_LINES_SHOWN],
                others=len(rest),
                rest=sum((line.amounts for line in rest), Amounts()),
            )
        )
    return panels


def _completeness(
    sidecar: RunningSidecar, wanted: UsageFilter, total: Amounts, report: HealthReport
) -> dict[str, Any]:
    oldest = [spool.status.oldest_queued_at for spool in report.spools]
    waiting = min((each for each in oldest if each is not None), default=None)
    return {
        "completeness": read_completeness(sidecar.summaries.reports, wanted, total),
        "unmetered_tasks": sidecar.summaries.reports.unmetered(wanted, ("task",)),
        "report": report,
        "refused": _refused_count(report, sidecar),
        "waiting_seconds": max(0.0, (report.at - waiting).total_seconds()) if waiting else 0.0,
        "queued": sum(spool.status.queued for spool in report.spools),
        "set_aside": sum(
            spool.status.dead_letters + spool.status.quarantined for spool in report.spools
        ),
        "days_waiting": len(sidecar.summaries.days.dirty_days()),
    }


def _refused_count(report: HealthReport, sidecar: RunningSidecar) -> int:
    return sum(
        count
        for counters in counters_by_origin(report, sidecar).values()
        for reason, count in counters.items()
        if reason.startswith("refused")
    )


def _days(span: Span) -> list[date]:
    return [span.start + number * ONE_DAY for number in range(span.days)]
