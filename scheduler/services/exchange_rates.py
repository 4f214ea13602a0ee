"""Exchange rates: what a dollar was worth on a day, entered one by one or from CSV."""

import csv
from dataclasses import dataclass
from datetime import date
from io import StringIO
from typing import Annotated

from pydantic import Field, StringConstraints

from scheduler.services.errors import Refused, TooMuch
from scheduler.services.inputs import Currency, Day, Input, LabelText
from shared.errors import ConfigError
from shared.summary_db.database import SummaryDatabase
from shared.summary_db.exchange import ExchangeRate, format_rate, parse_rate
from shared.summary_db.reports import Page

_CSV_LINES_MAX = 100_000
_CSV_COLUMNS = ("currency", "date", "rate", "source")
# A rate above zero: no run of zeros alone.
RateText = Annotated[
    str,
    StringConstraints(
        strict=True, pattern=r"^([1-9][0-9]{0,5}(\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9])$"
    ),
]


class NewExchangeRate(Input):
    """Units of a currency per US dollar on a day; it takes the place of an earlier entry."""

    currency: Currency
    local_date: Day
    rate: RateText = Field(examples=["4.0215"])
    source: LabelText = "entered"

    def parsed(self) -> ExchangeRate:
        return ExchangeRate(
            currency=self.currency,
            local_date=self.local_date,
            rate_nano=parse_rate(self.rate),
            source=self.source,
        )


@dataclass(frozen=True, kw_only=True)
class EnteredRate:
    """A rate as it is kept, with its exact text."""

    currency: str
    local_date: date
    rate: str
    source: str


def list_rates(summaries: SummaryDatabase, currency: str | None, page: Page) -> list[EnteredRate]:
    """Return rates, the newest day first."""
    return [_entered(rate) for rate in summaries.rates.listed(currency, page)]


def enter_rate(summaries: SummaryDatabase, new: NewExchangeRate) -> EnteredRate:
    rate = new.parsed()
    summaries.rates.enter([rate])
    return _entered(rate)


def read_csv(text: str) -> list[ExchangeRate]:
    """Read rates from CSV. Raises Refused that names the first line that is none."""
    try:
        return _read(csv.DictReader(StringIO(text)))
    except csv.Error:
        raise Refused("unusable_file", "the body is no CSV in UTF-8") from None


def _read(lines: "csv.DictReader[str]") -> list[ExchangeRate]:
    if set(lines.fieldnames or ()) != set(_CSV_COLUMNS):
        raise Refused("unusable_file", f"the first line must be {','.join(_CSV_COLUMNS)}")
    rates: list[ExchangeRate] = []
    for line in lines:
        if len(rates) >= _CSV_LINES_MAX:
            raise TooMuch(f"at most {_CSV_LINES_MAX} rates at once")
        try:
            new = NewExchangeRate(
                currency=line["currency"],
                local_date=date.fromisoformat(line["date"] or ""),
                rate=line["rate"],
                source=line["source"] or "csv",
            )
            rates.append(new.parsed())
        except (ValueError, TypeError, ConfigError):
            message = f"line {lines.line_num} is no rate; nothing was entered"
            raise Refused("unusable_file", message) from None
    return rates


def _entered(rate: ExchangeRate) -> EnteredRate:
    return EnteredRate(
        currency=rate.currency,
        local_date=rate.local_date,
        rate=format_rate(rate.rate_nano),
        source=rate.source,
    )
