"""Pages: what one organization pays for one month, to print, and the same as CSV."""

import csv
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from io import StringIO
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.dashboard.filters import today_of
from scheduler.dashboard.pages import render
from scheduler.dashboard.report_cache import ReportCache, ReportCacheDep
from scheduler.dashboard.spans import Span, month_of
from scheduler.process.running import RunningSidecar
from scheduler.reports.statement import Lines, Statement, StatementLine, read_statement
from scheduler.services.errors import Unusable
from scheduler.services.exports import safe_cell
from scheduler.services.inputs import LabelText
from scheduler.services.organizations import format_markup, known_organization
from shared.core.days import ONE_DAY
from shared.core.money import format_usd, from_pico
from shared.projection.organization import Organization
from shared.summary_db.exchange import format_rate
from shared.summary_db.reports import UsageFilter

router = APIRouter()

_COLUMNS = (
    "line",
    "name",
    "user_name",
    "events",
    "pending",
    "raw_usd",
    "upstream_usd",
    "estimated_usd",
    "billed_usd",
    "currency",
    "amount",
    "rate",
    "rate_of",
)


@dataclass(frozen=True)
class StatementQuery:
    """Which statement: a month such as 2026-11, and what a line stands for."""

    month: Annotated[str, Query(pattern=r"^([0-9]{4}-[0-9]{2})?$")] = ""
    by: Lines = "external_user"


@dataclass(frozen=True, kw_only=True)
class StatementView:
    """A statement with everything its page says about it."""

    organization: Organization
    span: Span
    by: Lines
    statement: Statement
    markups: list[tuple[date, str]]
    unmetered: int
    names: dict[str, str]
    is_open: bool


@router.get("/statements")
def choose(request: Request, sidecar: SidecarDep) -> Response:
    today = today_of(sidecar)
    organizations = sidecar.summaries.organizations.directory().organizations.values()
    values = {
        "organizations": sorted(organizations, key=lambda each: each.name),
        "last_month": month_of(today.replace(day=1) - ONE_DAY).start,
        "this_month": today.replace(day=1),
    }
    return render(request, "statements.html", values)


@router.get("/statement")
def chosen(
    request: Request,
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    query: Annotated[StatementQuery, Depends()],
    organization_id: Annotated[LabelText, Query()],
) -> Response:
    view = _statement_view(reports, sidecar, organization_id, query)
    values = {"view": view, "rate": format_rate}
    return render(request, "statement.html", values)


@router.get("/statement.csv")
def as_csv(
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    query: Annotated[StatementQuery, Depends()],
    organization_id: Annotated[LabelText, Query()],
) -> Response:
    """Return the statement as CSV; its lines add up to its total, which is rounded once.

    Markups and exchange rates follow, each with its day.
    """
    view = _statement_view(reports, sidecar, organization_id, query)
    buffer = StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_COLUMNS)
    for line in view.statement.lines:
        writer.writerow(_cells("line", line, view, line.exact_amount))
    total = view.statement.total
    writer.writerow(_cells("total, exact", total, view, total.exact_amount))
    writer.writerow(_cells("total, rounded once", total, view, total.amount))
    writer.writerows(_rates(view))
    name = f"statement-{view.span.start:%Y-%m}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(buffer.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _statement_view(
    reports: ReportCache, sidecar: RunningSidecar, organization_id: str, query: StatementQuery
) -> StatementView:
    organization = known_organization(sidecar.summaries.organizations.directory(), organization_id)
    today = today_of(sidecar)
    span = _month(query.month) if query.month else month_of(today.replace(day=1) - ONE_DAY)
    wanted = UsageFilter(start=span.start, end=span.end, organization_id=organization_id)
    [unmetered] = sidecar.summaries.reports.unmetered(wanted, ())
    return StatementView(
        organization=organization,
        span=span,
        by=query.by,
        statement=read_statement(
            reports.usage,
            sidecar.summaries.rates.of_currency(organization.currency),
            organization,
            wanted,
            query.by,
        ),
        markups=_markups(sidecar, organization_id, span),
        unmetered=unmetered.generations,
        names=sidecar.summaries.users.names() if query.by == "external_user" else {},
        is_open=span.end >= today - 2 * ONE_DAY,
    )


def _month(text: str) -> Span:
    try:
        return month_of(date.fromisoformat(f"{text}-01"))
    except (ValueError, OverflowError):
        raise Unusable(f"{text} is no month", "month") from None


def _markups(sidecar: RunningSidecar, organization_id: str, span: Span) -> list[tuple[date, str]]:
    """Return the markups of a span, each with the first day of the span it holds for."""
    directory = sidecar.summaries.organizations.directory()
    found: list[tuple[date, str]] = []
    for number in range(span.days):
        day = span.start + number * ONE_DAY
        markup = format_markup(directory.rate_ppm(organization_id, day))
        if not found or found[-1][1] != markup:
            found.append((day, markup))
    return found


def _cells(
    kind: str, line: StatementLine, view: StatementView, amount: Decimal | None
) -> list[Any]:
    amounts = line.amounts
    usd = (
        amounts.raw_pico_usd,
        amounts.upstream_pico_usd,
        amounts.estimated_pico_usd,
        amounts.billed_pico_usd,
    )
    return [
        kind,
        safe_cell(line.name),
        safe_cell(view.names.get(line.name)),
        amounts.events,
        amounts.pending,
        *(format_usd(from_pico(pico)) for pico in usd),
        view.statement.currency,
        _written(amount, is_rounded=kind.endswith("once")),
        None,
        None,
    ]


def _rates(view: StatementView) -> list[list[Any]]:
    """Return the markups with their first days, and the exchange rate of each day."""
    blank = [None] * (_COLUMNS.index("currency") - 2)
    markups = [
        ["markup", str(day), *blank, None, None, markup, str(day)] for day, markup in view.markups
    ]
    currency = view.statement.currency
    return markups + [
        [
            "exchange rate",
            str(used.local_date),
            *blank,
            currency,
            None,
            format_rate(used.rate_nano),
            str(used.of_date),
        ]
        for used in view.statement.rates
    ]


def _written(amount: Decimal | None, *, is_rounded: bool) -> str | None:
    if amount is None:
        return None
    return str(amount) if is_rounded else format_usd(amount)
