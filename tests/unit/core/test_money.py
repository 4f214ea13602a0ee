"""Money keeps every digit from a JSON number to a summary row."""

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.money import (
    apply_rate,
    format_usd,
    from_pico,
    parse_usd,
    rate_ppm,
    to_pico,
)
from shared.errors import UnusableCost

amounts = st.decimals(min_value=0, max_value=9_000_000, places=12)


@pytest.mark.parametrize(
    ("sent", "pico"),
    [
        ("7.4e-7", 740_000),
        ("8.400000000000001e-05", 84_000_000),
        ("0.00010104999999999999", 101_050_000),
        ("9.9E-7", 990_000),
        ("0", 0),
        ("0.0", 0),
        ("1e-12", 1),
        ("5e-13", 0),
        ("1.5e-12", 2),
        ("0.000004158", 4_158_000),
        ("10000", 10**16),
        ('"0.0000057915"', 5_791_500),
        ('" 7.4e-7 "', 740_000),
    ],
)
def test_a_json_amount_becomes_exact_pico_dollars(sent: str, pico: int) -> None:
    assert to_pico(parse_usd(json.loads(sent))) == pico


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing"),
        (-1e-9, "negative"),
        ("-0.1", "negative"),
        (float("nan"), "not_finite"),
        ("NaN", "not_finite"),
        (float("inf"), "not_finite"),
        (json.loads("1e400"), "not_finite"),
        ("1e400", "too_large"),
        pytest.param(10**5000, "too_large", id="too long to print"),
        (9_223_373, "too_large"),
        (True, "not_a_number"),
        ("five", "not_a_number"),
        ("", "not_a_number"),
        ([1], "not_a_number"),
        ({}, "not_a_number"),
    ],
)
def test_what_is_no_money_is_refused_by_reason(value: object, reason: str) -> None:
    with pytest.raises(UnusableCost) as caught:
        parse_usd(value)
    assert caught.value.reason == reason


def test_minus_zero_is_zero() -> None:
    assert not parse_usd(-0.0).is_signed()


@given(amounts)
def test_an_amount_survives_storing_and_printing(amount: Decimal) -> None:
    assert from_pico(to_pico(parse_usd(amount))) == amount
    assert parse_usd(format_usd(amount)) == amount
    assert parse_usd(json.loads(json.dumps(str(amount)))) == amount


@given(st.floats(min_value=0, max_value=1000))
def test_a_float_is_off_by_less_than_half_a_pico_dollar(value: float) -> None:
    assert abs(Fraction(to_pico(parse_usd(value)), 10**12) - Fraction(repr(value))) <= Fraction(
        1, 2 * 10**12
    )


@given(st.lists(st.integers(0, 2**63), max_size=50))
def test_sums_beyond_64_bits_stay_exact(picos: list[int]) -> None:
    assert Fraction(format_usd(from_pico(sum(picos)))) == Fraction(sum(picos), 10**12)


@given(st.integers(0, 2**70), st.integers(0, 10_000_000))
def test_a_rate_rounds_half_to_even(raw: int, ppm: int) -> None:
    assert apply_rate(raw, ppm) == round(Fraction(raw * ppm, 1_000_000))


@pytest.mark.parametrize(
    ("multiplier", "ppm"),
    [(1.3, 1_300_000), ("1.3", 1_300_000), (1, 1_000_000), ("0.000001", 1), (0, 0)],
)
def test_a_markup_multiplier_becomes_parts_per_million(multiplier: object, ppm: int) -> None:
    assert rate_ppm(multiplier) == ppm


def test_a_markup_finer_than_a_millionth_is_refused() -> None:
    with pytest.raises(UnusableCost, match="more_than_six_decimals"):
        rate_ppm("1.3000001")
