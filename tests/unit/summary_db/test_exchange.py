"""Exchange rates: the day's own or the last before it, exact, rounded once."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from shared.errors import ConfigError
from shared.summary_db.exchange import (
    DayRate,
    ExchangeRate,
    ExchangeRates,
    format_rate,
    parse_rate,
    round_units,
)

FRIDAY = date(2026, 11, 20)
SUNDAY = FRIDAY + timedelta(days=2)


def rates(*values: tuple[date, str]) -> ExchangeRates:
    return ExchangeRates(
        ExchangeRate(currency="PLN", local_date=day, rate_nano=parse_rate(rate), source="NBP")
        for day, rate in values
    )


def test_a_day_without_a_rate_uses_the_last_one_and_says_which() -> None:
    assert rates((FRIDAY, "4.0215")).on(SUNDAY) == DayRate(4_021_500_000, FRIDAY)


def test_before_the_first_rate_there_is_none() -> None:
    found = rates((FRIDAY, "4.0215"))
    assert found.on(FRIDAY - timedelta(days=1)) is None
    assert found.convert({FRIDAY - timedelta(days=1): 1}) is None


def test_each_day_is_converted_at_its_own_rate() -> None:
    units = rates((FRIDAY, "4"), (SUNDAY, "5")).convert({FRIDAY: 10**12, SUNDAY: 10**12})
    assert units is not None
    assert round_units(units, "PLN") == Decimal("9.00")


@pytest.mark.parametrize(
    ("units", "cents"),
    [(5 * 10**18, "0.00"), (5 * 10**18 + 1, "0.01"), (15 * 10**18, "0.02"), (10**60, None)],
)
def test_a_sum_is_rounded_half_to_even_however_large(units: int, cents: str | None) -> None:
    expected = Decimal(f"{10**41}e-2") if cents is None else Decimal(cents)
    assert round_units(units, "PLN") == expected


@pytest.mark.parametrize(
    ("currency", "amount"),
    [("JPY", "12346"), ("KRW", "12346"), ("PLN", "12345.68"), ("KWD", "12345.679")],
)
def test_an_amount_is_rounded_to_what_its_currency_can_be_paid_in(
    currency: str, amount: str
) -> None:
    assert str(round_units(123_456_789 * 10**17, currency)) == amount


@pytest.mark.parametrize("value", ["0", "-1", "abc", "NaN", "Infinity", "1e-10", "1e9", "", None])
def test_what_is_no_rate_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="rate"):
        parse_rate(value)


@pytest.mark.parametrize("text", ["4.0215", "150", "0.000000001"])
def test_a_rate_is_written_as_it_was_read(text: str) -> None:
    assert format_rate(parse_rate(text)) == text
