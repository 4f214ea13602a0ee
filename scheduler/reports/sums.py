"""Sums of figures, exact and however large."""

from collections.abc import Iterable

from shared.projection.summary import AMOUNTS, Amounts


def add_amounts(found: Iterable[Amounts]) -> Amounts:
    """Add up amounts."""
    sums = dict.fromkeys(AMOUNTS, 0)
    for each in found:
        for name in AMOUNTS:
            sums[name] += getattr(each, name)
    return Amounts(**sums)
