"""Exchange: what a US dollar is worth in another currency on a day."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation

from shared.errors import ConfigError

NANO = 10**9
_RATE_MAX = 9 * NANO * 10**6
# Picodollars times billionths, per cent.
_UNITS_PER_CENT = 10**19


@dataclass(frozen=True, kw_only=True)
class ExchangeRate:
    """Units of a currency per US dollar on a day, in units of 1e-9, and who said so."""

    currency: str
    local_date: date
    rate_nano: int
    source: str


@dataclass(frozen=True)
class DayRate:
    """The rate that applies to a day; `of_date` is an earlier day when that day has none."""

    rate_nano: int
    of_date: date


@dataclass(frozen=True)
class ExchangeRates:
    """All rates of one currency; a day without one uses the last one before it."""

    rates: Iterable[ExchangeRate]
    _days: list[date] = field(init=False, default_factory=list)
    _nano: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        for rate in sorted(self.rates, key=lambda rate: rate.local_date):
            self._days.append(rate.local_date)
            self._nano.append(rate.rate_nano)

    def on(self, day: date) -> DayRate | None:
        """Return the rate of a day, or None when there is none on or before it."""
        position = bisect_right(self._days, day)
        return DayRate(self._nano[position - 1], self._days[position - 1]) if position else None

    def convert(self, pico_usd_by_day: Mapping[date, int]) -> int | None:
        """Convert the amounts of days, each at its day's rate, to units of 1e-21; None without one.

        Exact: a statement adds up these units and rounds once, by `round_to_cents`.
        """
        total = 0
        for day, pico_usd in pico_usd_by_day.items():
            rate = self.on(day)
            if rate is None:
                return None
            total += pico_usd * rate.rate_nano
        return total


def round_to_cents(units: int) -> Decimal:
    """Round an amount in units of 1e-21 to cents, half to even, however large it is."""
    cents, rest = divmod(units, _UNITS_PER_CENT)
    if rest * 2 > _UNITS_PER_CENT or (rest * 2 == _UNITS_PER_CENT and cents % 2):
        cents += 1
    return Decimal(f"{cents}e-2")


def parse_rate(value: object) -> int:
    """Read a rate such as `4.0215` exactly, in units of 1e-9.

    Raises ConfigError for what is no positive number or has more than nine decimals.
    """
    try:
        rate = Decimal(str(value).strip()).scaleb(9)
        nano = int(rate) if rate.is_finite() and abs(rate) <= _RATE_MAX else 0
    except (InvalidOperation, ValueError):
        nano, rate = 0, Decimal(0)
    if nano <= 0 or rate != nano:
        raise ConfigError(
            "rate", value, "must be a number above 0, at most 9 million, with at most nine decimals"
        )
    return nano


def format_rate(rate_nano: int) -> str:
    """Write a rate without trailing zeros."""
    text = format(Decimal(rate_nano).scaleb(-9), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
