"""Page: what a dollar was worth, entered one by one or from CSV."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import Paging
from scheduler.dashboard.filters import today_of
from scheduler.dashboard.forms import Confirmed, Text, confirm, redirect
from scheduler.dashboard.pages import render
from scheduler.services import exchange_rates as service
from scheduler.services.exchange_rates import NewExchangeRate, read_csv
from scheduler.services.inputs import read_input
from shared.summary_db.exchange import format_rate, parse_rate

router = APIRouter()

_PAGE = "/ui/exchange-rates"
_RATES_PER_PAGE = 60


@router.get("/exchange-rates")
def exchange_rates(
    request: Request, sidecar: SidecarDep, offset: Annotated[int, Query(ge=0, le=10**6)] = 0
) -> Response:
    paging = Paging(limit=_RATES_PER_PAGE, offset=offset)
    found = service.list_rates(sidecar.summaries, None, paging.page())
    rates, next_offset = paging.cut(found)
    organizations = sidecar.summaries.organizations.directory().organizations.values()
    values = {
        "rates": rates,
        "next_offset": next_offset,
        "today": today_of(sidecar),
        "needed": sorted({each.currency for each in organizations} - {"USD"}),
    }
    return render(request, "exchange_rates.html", values)


@router.post("/exchange-rates")
def enter(
    request: Request,
    sidecar: SidecarDep,
    currency: Text = "",
    local_date: Text = "",
    rate: Text = "",
    source: Text = "",
    confirmed: Confirmed = False,
) -> Response:
    """Enter the rate of a day; replacing another one needs confirmation."""
    body = read_input(
        NewExchangeRate, currency=currency, local_date=local_date, rate=rate, source=source
    )
    known = sidecar.summaries.rates.of_currency(body.currency).on(body.local_date)
    is_there = known is not None and known.of_date == body.local_date
    if known and is_there and known.rate_nano != parse_rate(body.rate) and not confirmed:
        sentences = [
            f"{body.local_date} has a rate already: {format_rate(known.rate_nano)} "
            f"{body.currency} per US dollar. It will be {body.rate}.",
            "Statements with that day, or with days that borrow its rate, change.",
        ]
        fields = {"currency": currency, "local_date": local_date, "rate": rate, "source": source}
        return confirm(request, "Replace an exchange rate", sentences, fields, _PAGE)
    service.enter_rate(sidecar.summaries, body)
    return redirect(_PAGE)


@router.post("/exchange-rates/csv")
def enter_csv(
    request: Request, sidecar: SidecarDep, text: Text = "", confirmed: Confirmed = False
) -> Response:
    """Enter rates from pasted CSV, all of them or none."""
    rates = read_csv(text.strip() + "\n")
    if not confirmed:
        days = sorted({rate.local_date for rate in rates})
        currencies = ", ".join(sorted({rate.currency for rate in rates}))
        spans = f" for days from {days[0]} to {days[-1]}" if days else ""
        sentences = [
            f"{len(rates)} rates of {currencies or 'no currency'}{spans} will be entered.",
            "They take the place of rates of the same currency and day.",
        ]
        return confirm(request, "Enter exchange rates", sentences, {"text": text}, _PAGE)
    sidecar.summaries.rates.enter(rates)
    return redirect(_PAGE)
