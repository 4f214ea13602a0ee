"""Routes: what a dollar was worth on a day, entered one by one or from a CSV file."""

import csv
from datetime import date
from io import StringIO
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field, StringConstraints

from scheduler.api.deps import SidecarDep
from scheduler.api.errors import ApiError
from scheduler.api.fields import Body, Currency, Day, LabelText, Paging
from shared.errors import ConfigError
from shared.summary_db.exchange import ExchangeRate, format_rate, parse_rate

router = APIRouter(prefix="/exchange-rates", tags=["exchange rates"])

_CSV_LINES_MAX = 100_000
_CSV_COLUMNS = ("currency", "date", "rate", "source")
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
# A rate above zero: no run of zeros alone.
RateText = Annotated[
    str,
    StringConstraints(
        strict=True, pattern=r"^([1-9][0-9]{0,5}(\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9])$"
    ),
]


class NewExchangeRate(Body):
    """Units of a currency per US dollar on a day; it takes the place of an earlier entry."""

    currency: Currency
    local_date: Day
    rate: RateText = Field(examples=["4.0215"])
    source: LabelText = "entered"


class ExchangeRateBody(BaseModel):
    """A rate as it is kept."""

    currency: str
    local_date: date
    rate: str
    source: str


class EnteredBody(BaseModel):
    """How many rates were entered."""

    entered: int


class RatesPage(BaseModel):
    """A page of rates, the newest day first."""

    rates: list[ExchangeRateBody]
    next_offset: int | None


@router.get("")
def list_rates(
    sidecar: SidecarDep,
    paging: Annotated[Paging, Depends()],
    currency: Annotated[Currency | None, Query()] = None,
) -> RatesPage:
    """Rates, the newest day first."""
    rates, next_offset = paging.cut(sidecar.books.list_rates(currency, paging.page()))
    return RatesPage(rates=[_body(rate) for rate in rates], next_offset=next_offset)


@router.put("")
def enter_rate(body: NewExchangeRate, sidecar: SidecarDep) -> ExchangeRateBody:
    """Enter the rate of a day."""
    rate = ExchangeRate(
        currency=body.currency,
        local_date=body.local_date,
        rate_nano=parse_rate(body.rate),
        source=body.source,
    )
    sidecar.books.enter_rates([rate])
    return _body(rate)


@router.post("/csv", openapi_extra=_CSV_CONTENT)
async def enter_csv(request: Request, sidecar: SidecarDep) -> EnteredBody:
    """Enter rates from CSV with the columns currency, date, rate, source: all of them or none."""
    raw = await request.body()
    try:
        rates = read_csv(raw.decode("utf-8-sig"))
    except (UnicodeDecodeError, csv.Error):
        raise ApiError(409, "unusable_file", "the body is no CSV in UTF-8") from None
    return EnteredBody(entered=sidecar.books.enter_rates(rates))


def read_csv(text: str) -> list[ExchangeRate]:
    """Read rates from CSV. Raises ApiError that names the first line that is none."""
    lines = csv.DictReader(StringIO(text))
    if set(lines.fieldnames or ()) != set(_CSV_COLUMNS):
        raise ApiError(409, "unusable_file", f"the first line must be {','.join(_CSV_COLUMNS)}")
    rates: list[ExchangeRate] = []
    for line in lines:
        if len(rates) >= _CSV_LINES_MAX:
            raise ApiError(413, "too_large", f"at most {_CSV_LINES_MAX} rates at once")
        try:
            entered = NewExchangeRate(
                currency=line["currency"],
                local_date=date.fromisoformat(line["date"] or ""),
                rate=line["rate"],
                source=line["source"] or "csv",
            )
            nano = parse_rate(entered.rate)
        except (ValueError, TypeError, ConfigError):
            sentence = f"line {lines.line_num} is no rate; nothing was entered"
            raise ApiError(409, "unusable_file", sentence) from None
        rates.append(
            ExchangeRate(
                currency=entered.currency,
                local_date=entered.local_date,
                rate_nano=nano,
                source=entered.source,
            )
        )
    return rates


def _body(rate: ExchangeRate) -> ExchangeRateBody:
    return ExchangeRateBody(
        currency=rate.currency,
        local_date=rate.local_date,
        rate=format_rate(rate.rate_nano),
        source=rate.source,
    )
