"""Routes: what a dollar was worth on a day, entered one by one or from a CSV file."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import Paging
from scheduler.services import exchange_rates as service
from scheduler.services.errors import Refused
from scheduler.services.exchange_rates import EnteredRate, NewExchangeRate, read_csv
from scheduler.services.inputs import Currency

router = APIRouter(prefix="/exchange-rates", tags=["exchange rates"])

_CSV_CONTENT = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                "schema": {"type": "string"},
                "example": "currency,date,rate,source\nPLN,2026-11-24,4.0215,NBP\n",
            }
        },
    }
}


class EnteredBody(BaseModel):
    """How many rates were entered."""

    entered: int


class RatesPage(BaseModel):
    """A page of rates, the newest day first."""

    rates: list[EnteredRate]
    next_offset: int | None


@router.get("")
def list_rates(
    sidecar: SidecarDep,
    paging: Annotated[Paging, Depends()],
    currency: Annotated[Currency | None, Query()] = None,
) -> RatesPage:
    """Rates, the newest day first."""
    found = service.list_rates(sidecar.summaries, currency, paging.page())
    rates, next_offset = paging.cut(found)
    return RatesPage(rates=rates, next_offset=next_offset)


@router.put("")
def enter_rate(body: NewExchangeRate, sidecar: SidecarDep) -> EnteredRate:
    """Enter the rate of a day."""
    return service.enter_rate(sidecar.summaries, body)


@router.post("/csv", openapi_extra=_CSV_CONTENT)
async def enter_csv(request: Request, sidecar: SidecarDep) -> EnteredBody:
    """Enter rates from CSV with the columns currency, date, rate, source: all of them or none."""
    raw = await request.body()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused("unusable_file", "the body is no CSV in UTF-8") from None
    return EnteredBody(entered=sidecar.summaries.rates.enter(read_csv(text)))
