"""Statement: what an organization pays for a span of days, in its own currency, rounded once."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from shared.core.amounts import Amounts
from shared.projection.organization import Organization
from shared.summary_db.exchange import NANO, ExchangeRate, ExchangeRates, round_units
from shared.summary_db.reports import Grouping, UsageFilter, UsageLine

Lines = Literal["external_user", "model", "task", "day"]
UsageReader = Callable[[UsageFilter, Sequence[Grouping]], list[UsageLine]]

_USD = "USD"
_ONE_FOR_ONE = ExchangeRates(
    [ExchangeRate(currency=_USD, local_date=date.min, rate_nano=NANO, source="itself")]
)


@dataclass(frozen=True, kw_only=True)
class StatementLine:
    """A line; `amount` is rounded for reading, the total is not the sum of rounded lines.

    `units` is the amount before any rounding, in units of 1e-21: these add up to the total's.
    """

    name: str
    amounts: Amounts
    units: int | None
    amount: Decimal | None

    @property
    def exact_amount(self) -> Decimal | None:
        """The amount before any rounding."""
        if self.units is None:
            return None
        return Decimal((0, tuple(map(int, str(self.units))), -21))


@dataclass(frozen=True, kw_only=True)
class UsedRate:
    """The exchange rate of a day; `of_date` is earlier when the day has none of its own."""

    local_date: date
    rate_nano: int
    of_date: date


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement; without an amount a day has no exchange rate on or before it."""

    currency: str
    lines: Sequence[StatementLine]
    total: StatementLine
    rates: Sequence[UsedRate]
    days_without_rate: Sequence[date]


def read_statement(
    usage: UsageReader,
    rates: ExchangeRates,
    organization: Organization,
    wanted: UsageFilter,
    lines: Lines,
) -> Statement:
    """Add up an organization's days by lines, each day at its own rate of `rates`.

    An organization billed in US dollars needs none.
    """
    currency = organization.currency
    rates = rates if currency != _USD else _ONE_FOR_ONE
    by_name: dict[str, dict[date, Amounts]] = defaultdict(dict)
    for line in usage(wanted, ("day", lines) if lines != "day" else ("day",)):
        by_name[line.group[lines]][date.fromisoformat(line.group["day"])] = line.amounts
    found = [_line(name, by_name[name], rates, currency) for name in sorted(by_name)]
    days: dict[date, int] = defaultdict(int)
    for amounts_by_day in by_name.values():
        for day, amounts in amounts_by_day.items():
            days[day] += amounts.billed_pico_usd
    return Statement(
        currency=currency,
        lines=found,
        total=_priced("", sum((line.amounts for line in found), Amounts()), days, rates, currency),
        rates=_used(days, rates) if currency != _USD else [],
        days_without_rate=sorted(day for day in days if rates.on(day) is None),
    )


def _line(
    name: str, days: Mapping[date, Amounts], rates: ExchangeRates, currency: str
) -> StatementLine:
    billed = {day: amounts.billed_pico_usd for day, amounts in days.items()}
    return _priced(name, sum(days.values(), Amounts()), billed, rates, currency)


def _priced(
    name: str, amounts: Amounts, billed: Mapping[date, int], rates: ExchangeRates, currency: str
) -> StatementLine:
    units = rates.convert(billed)
    rounded = None if units is None else round_units(units, currency)
    return StatementLine(name=name, amounts=amounts, units=units, amount=rounded)


def _used(days: Mapping[date, int], rates: ExchangeRates) -> list[UsedRate]:
    found = [(day, rates.on(day)) for day in sorted(days)]
    return [
        UsedRate(local_date=day, rate_nano=rate.rate_nano, of_date=rate.of_date)
        for day, rate in found
        if rate is not None
    ]
