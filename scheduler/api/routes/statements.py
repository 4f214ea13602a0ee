"""Route: what an organization pays, in its own currency."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.api.routes.organizations import OrganizationId
from scheduler.reports.statement import Lines, Statement, read_statement
from scheduler.services.figures import Pico
from scheduler.services.inputs import Day, check_span
from scheduler.services.organizations import known_organization
from shared.summary_db.exchange import format_rate
from shared.summary_db.reports import UsageFilter

router = APIRouter(prefix="/organizations", tags=["figures"])


class StatementLineBody(BaseModel):
    """A line of a statement."""

    name: str
    user_name: str | None
    events: int
    pending: int
    billed_usd: Pico
    amount: str | None


class UsedRateBody(BaseModel):
    """The rate a day was converted at; `of_date` is earlier where the day has none of its own."""

    local_date: date
    rate: str
    of_date: date
    is_own: bool


class StatementBody(BaseModel):
    """A statement, rounded once, at its total; `amount` is null while a day has no rate."""

    organization_id: str
    name: str
    start: date
    end: date
    currency: str
    lines: list[StatementLineBody]
    events: int
    pending: int
    billed_usd: Pico
    amount: str | None
    rates: list[UsedRateBody]
    days_without_rate: list[date]
    notes: list[str]


@router.get("/{organization_id}/statement")
def statement(
    organization_id: OrganizationId,
    sidecar: SidecarDep,
    start: Annotated[Day, Query()],
    end: Annotated[Day, Query()],
    lines: Annotated[Lines, Query(description="what a line stands for")] = "model",
) -> StatementBody:
    """What the organization pays for these local days."""
    organization = known_organization(sidecar.summaries.organizations.directory(), organization_id)
    check_span(start, end)
    wanted = UsageFilter(start=start, end=end, organization_id=organization_id)
    rates = sidecar.summaries.rates.of_currency(organization.currency)
    found = read_statement(sidecar.summaries.reports.usage, rates, organization, wanted, lines)
    names = sidecar.summaries.users.names() if lines == "external_user" else {}
    return StatementBody(
        organization_id=organization_id,
        name=organization.name,
        start=start,
        end=end,
        currency=found.currency,
        lines=[
            StatementLineBody(
                name=line.name,
                user_name=names.get(line.name),
                events=line.amounts.events,
                pending=line.amounts.pending,
                billed_usd=line.amounts.billed_pico_usd,
                amount=None if line.amount is None else str(line.amount),
            )
            for line in found.lines
        ],
        events=found.total.amounts.events,
        pending=found.total.amounts.pending,
        billed_usd=found.total.amounts.billed_pico_usd,
        amount=None if found.total.amount is None else str(found.total.amount),
        rates=_rates(found),
        days_without_rate=list(found.days_without_rate),
        notes=_warnings(found),
    )


def _rates(found: Statement) -> list[UsedRateBody]:
    return [
        UsedRateBody(
            local_date=used.local_date,
            rate=format_rate(used.rate_nano),
            of_date=used.of_date,
            is_own=used.of_date == used.local_date,
        )
        for used in found.rates
    ]


def _warnings(found: Statement) -> list[str]:
    pending = found.total.amounts.pending
    borrowed = sum(used.of_date != used.local_date for used in found.rates)
    sentences = (
        (pending, f"{pending} events are pending: their cost is not in the amount yet"),
        (borrowed, f"{borrowed} days have no rate of their own and use the last one before"),
        (
            found.days_without_rate,
            f"{len(found.days_without_rate)} days have no {found.currency} rate on or before them: "
            "enter one, until then there is no amount",
        ),
    )
    return [sentence for applies, sentence in sentences if applies]
