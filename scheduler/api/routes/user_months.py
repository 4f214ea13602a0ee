"""Route: what one user used this month and the month before, for a page of the user's own."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from scheduler.api.deps import SidecarDep
from scheduler.reports.user_months import MonthReader, UserMonth
from scheduler.services.figures import Pico
from scheduler.services.inputs import LabelText
from shared.core.amounts import Amounts
from shared.core.days import zone_named
from shared.settings import UserCost

router = APIRouter(tags=["user"])


class ModelMonthBody(BaseModel):
    """What was used of one model."""

    model: str
    events: int
    total_tokens: int
    cost_usd: Pico


class UserMonthBody(BaseModel):
    """A month up to `end`, the dearest model first; pending and unmetered have no cost in it."""

    start: date
    end: date
    events: int
    pending: int
    unmetered: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_usd: Pico
    models: list[ModelMonthBody]


class UserMonthsBody(BaseModel):
    """This month and the one before, in the zone of the user's organization."""

    time_zone: str
    as_of: datetime | None = Field(
        description="when the figures were last brought up to date, in this zone; "
        "null: not since the sidecar started"
    )
    cost: UserCost = Field(description="what `cost_usd` is: the setting USAGE_USER_COST")
    months: list[UserMonthBody]


@router.get("/months")
def months(
    sidecar: SidecarDep,
    external_user: Annotated[LabelText, Query(description="Open WebUI's id of the user")],
) -> UserMonthsBody:
    """This month of one user and the one before; of whom nothing is known, months of nothing."""
    reader = MonthReader(
        sidecar.summaries.reports,
        sidecar.summaries.organizations.directory(),
        sidecar.settings.usage_client_org,
    )
    found = reader.read(external_user, sidecar.clock.now())
    refresh = sidecar.job_log.states().get("refresh")
    as_of = refresh.succeeded_at if refresh else None
    cost = sidecar.settings.usage_user_cost
    return UserMonthsBody(
        time_zone=found.time_zone,
        as_of=as_of and as_of.astimezone(zone_named(found.time_zone)),
        cost=cost,
        months=[_month_body(month, cost) for month in found.months],
    )


def _month_body(month: UserMonth, cost: UserCost) -> UserMonthBody:
    dearest_first = sorted(month.models, key=lambda each: -_cost_of(each.amounts, cost))
    return UserMonthBody(
        start=month.start,
        end=month.end,
        events=month.total.events,
        pending=month.total.pending,
        unmetered=month.unmetered,
        input_tokens=month.total.input_tokens,
        output_tokens=month.total.output_tokens,
        total_tokens=month.total.total_tokens,
        cost_usd=_cost_of(month.total, cost),
        models=[
            ModelMonthBody(
                model=each.model,
                events=each.amounts.events,
                total_tokens=each.amounts.total_tokens,
                cost_usd=_cost_of(each.amounts, cost),
            )
            for each in dearest_first
        ],
    )


def _cost_of(amounts: Amounts, cost: UserCost) -> int:
    return amounts.billed_pico_usd if cost == "billed" else amounts.raw_pico_usd
