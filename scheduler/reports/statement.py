"""Statement: what an organization pays for a span of days, in its own currency, rounded once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from shared.domain.exchange import NANO, ExchangeRate, ExchangeRates, round_to_cents
from shared.domain.organization import Organization
from shared.ports_admin import AdminBooks, UsageFilter

Lines = Literal["external_user", "model", "task", "day"]
_USD = "USD"


@dataclass(frozen=True, kw_only=True)
class StatementLine:
    """A line; `amount` is rounded for reading, the total is not the sum of rounded lines."""

    name: str
    events: int
    pending: int
    billed_pico_usd: int
    amount: Decimal | None


@dataclass(frozen=True, kw_only=True)
class UsedRate:
    """The rate a day was converted at, and the day it is of when that day has none of its own."""

    local_date: date
    rate_nano: int
    of_date: date


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement. `amount` None means that a day has no exchange rate, on it or before it."""

    currency: str
    lines: Sequence[StatementLine]
    events: int
    pending: int
    billed_pico_usd: int
    amount: Decimal | None
    rates: Sequence[UsedRate]
    days_without_rate: Sequence[date]


def read_statement(
    books: AdminBooks, organization: Organization, wanted: UsageFilter, lines: Lines
) -> Statement:
    """Add up an organization's days by lines, each day at its own exchange rate."""
    rates = _rates(books, organization.currency)
    by_day: dict[str, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    all_days: dict[date, int] = defaultdict(int)
    for line in books.usage(wanted, ("day", lines) if lines != "day" else ("day",)):
        day, name = date.fromisoformat(line.group["day"]), line.group[lines]
        by_day[name][day] += line.amounts.billed_pico_usd
        all_days[day] += line.amounts.billed_pico_usd
        counts[name][0] += line.amounts.events
        counts[name][1] += line.amounts.pending
    return Statement(
        currency=organization.currency,
        lines=[_line(name, counts[name], by_day[name], rates) for name in sorted(by_day)],
        events=sum(events for events, _ in counts.values()),
        pending=sum(pending for _, pending in counts.values()),
        billed_pico_usd=sum(all_days.values()),
        amount=_amount(all_days, rates),
        rates=_used(all_days, rates) if organization.currency != _USD else [],
        days_without_rate=sorted(day for day in all_days if rates.on(day) is None),
    )


def _rates(books: AdminBooks, currency: str) -> ExchangeRates:
    if currency != _USD:
        return books.exchange_rates(currency)
    one = ExchangeRate(currency=_USD, local_date=date.min, rate_nano=NANO, source="itself")
    return ExchangeRates([one])


def _line(
    name: str, counts: Sequence[int], days: Mapping[date, int], rates: ExchangeRates
) -> StatementLine:
    return StatementLine(
        name=name,
        events=counts[0],
        pending=counts[1],
        billed_pico_usd=sum(days.values()),
        amount=_amount(days, rates),
    )


def _amount(days: Mapping[date, int], rates: ExchangeRates) -> Decimal | None:
    units = rates.convert(days)
    return None if units is None else round_to_cents(units)


def _used(days: Mapping[date, int], rates: ExchangeRates) -> list[UsedRate]:
    found = [(day, rates.on(day)) for day in sorted(days)]
    return [
        UsedRate(local_date=day, rate_nano=rate.rate_nano, of_date=rate.of_date)
        for day, rate in found
        if rate is not None
    ]
