"""Exchange rates: what a US dollar is worth in another currency on a day."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation

from shared.errors import ConfigError

NANO = 10**9
_RATE_MAX = 9 * NANO * 10**6
# Picodollars times billionths: 1e-21 of the currency's unit.
_UNIT_DIGITS = 21
# Digits after the point where they are not two: ISO 4217, list one, "minor unit", as published
# on 2026-01-01.
_MINOR_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


@dataclass(frozen=True, kw_only=True)
class ExchangeRate:
    """Units of a currency per US dollar on a day, in units of 1e-9, and their source."""

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

        Exact: a statement adds up these units and rounds once, by `round_units`.
        """
        total = 0
        for day, pico_usd in pico_usd_by_day.items():
            rate = self.on(day)
            if rate is None:
                return None
            total += pico_usd * rate.rate_nano
        return total


def round_units(units: int, currency: str) -> Decimal:
    """Round an amount in units of 1e-21 to what can be paid in a currency, half to even.

    That is cents in most, whole yen, thousandths of a dinar; however large the amount is.
    """
    digits = _MINOR_DIGITS.get(currency, 2)
    step = 10 ** (_UNIT_DIGITS - digits)
    payable, rest = divmod(units, step)
    if rest * 2 > step or (rest * 2 == step and payable % 2):
        payable += 1
    return Decimal(f"{payable}e-{digits}")


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
