"""Money: exact US dollars as Decimal, stored and added as integer pico-USD (1e-12 USD)."""

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from shared.errors import UnusableCost

PICO_PER_USD = 10**12
PPM = 1_000_000
_STEP = Decimal(1).scaleb(-12)
# int64 pico-USD, the column type of every store here, ends at 9.2 million USD.
_MAX_PICO = 2**63 - 1
_MAX_USD = Decimal(_MAX_PICO).scaleb(-12)


def parse_usd(raw: object) -> Decimal:
    """Read an amount of US dollars from JSON, exact to 1e-12 (half even).

    Numbers, Decimals and numeric strings are amounts. OpenRouter sends shortest round-trip doubles
    such as `7.4e-7`, and Open WebUI adds them up as floats: `8.400000000000001e-05`; `repr` keeps
    every digit that was sent.

    Raises UnusableCost for null, booleans, negatives, NaN, infinities, text and for more than
    int64 pico-USD.
    """
    if raw is None:
        raise UnusableCost("missing", "cost", raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float | str | Decimal):
        raise UnusableCost("not_a_number", "cost", type(raw).__name__)
    if isinstance(raw, int) and abs(raw) > _MAX_PICO:
        # Before str(): Python refuses to print integers of more than 4300 digits.
        raise UnusableCost("too_large", "cost", f"{raw.bit_length()} bits")
    try:
        amount = Decimal(repr(raw) if isinstance(raw, float) else str(raw).strip())
    except InvalidOperation:
        raise UnusableCost("not_a_number", "cost", type(raw).__name__) from None
    if not amount.is_finite():
        raise UnusableCost("not_finite", "cost", raw)
    if amount < 0:
        raise UnusableCost("negative", "cost", raw)
    if amount > _MAX_USD:
        raise UnusableCost("too_large", "cost", raw)
    return abs(amount.quantize(_STEP, rounding=ROUND_HALF_EVEN))


def to_pico(amount: Decimal) -> int:
    """Convert an amount that `parse_usd` returned to pico-USD."""
    return int(amount.scaleb(12))


def from_pico(pico: int) -> Decimal:
    """Convert pico-USD to US dollars, exactly and however large the sum is."""
    sign, digits = (1, -pico) if pico < 0 else (0, pico)
    return Decimal((sign, tuple(int(digit) for digit in str(digits)), -12))


def format_usd(amount: Decimal) -> str:
    """Write an amount without exponent and without trailing zeros: `0.00000074`, `0`, `1300`."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def rate_ppm(multiplier: object) -> int:
    """Convert a markup multiplier such as `1.3` to parts per million.

    Raises UnusableCost when it is no usable number or has more than six decimals.
    """
    amount = parse_usd(multiplier)
    if amount != amount.quantize(Decimal("0.000001")):
        raise UnusableCost("more_than_six_decimals", "markup", multiplier)
    return int(amount.scaleb(6))


def apply_rate(raw_pico: int, ppm: int) -> int:
    """Return `raw * rate` in pico-USD, rounded half to even, for amounts of any size."""
    quotient, remainder = divmod(raw_pico * ppm, PPM)
    if remainder * 2 > PPM or (remainder * 2 == PPM and quotient % 2):
        quotient += 1
    return quotient
