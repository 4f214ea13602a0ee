"""Apportioning keeps every total, whatever the figures are."""

from hypothesis import given, settings
from hypothesis import strategies as st

from migration_tools.sources.legacy.apportion import (
    fit_within,
    independence_table,
    largest_remainder,
)

AMOUNTS = st.lists(st.integers(0, 10**15), min_size=1, max_size=7)


@st.composite
def margins(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    rows = draw(AMOUNTS)
    weights = draw(AMOUNTS)
    return rows, largest_remainder(sum(rows), weights)


def sums(cells: list[list[int]]) -> tuple[list[int], list[int]]:
    return [sum(line) for line in cells], [sum(line) for line in zip(*cells, strict=True)]


@given(st.integers(0, 10**15), AMOUNTS)
def test_largest_remainder_keeps_the_total_and_no_share_is_negative(
    total: int, weights: list[int]
) -> None:
    parts = largest_remainder(total, weights)
    assert sum(parts) == total
    assert min(parts) >= 0


def test_largest_remainder_gives_the_rest_to_the_largest_remainder() -> None:
    assert largest_remainder(10, [1, 1, 1]) == [4, 3, 3]
    assert largest_remainder(7, [0, 0]) == [4, 3]
    assert largest_remainder(0, [3, 4]) == [0, 0]


@settings(max_examples=150)
@given(margins())
def test_independence_table_keeps_rows_and_columns(both: tuple[list[int], list[int]]) -> None:
    rows, columns = both
    cells = independence_table(rows, columns)
    assert sums(cells) == (rows, columns)
    assert min(map(min, cells)) >= 0


@settings(max_examples=150)
@given(margins(), st.data())
def test_fit_within_keeps_rows_and_columns_for_any_weights(
    both: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    rows, columns = both
    line = st.lists(st.integers(0, 5), min_size=len(columns), max_size=len(columns))
    weights = data.draw(st.lists(line, min_size=len(rows), max_size=len(rows)))
    cells = fit_within(rows, columns, weights)
    assert sums(cells) == (rows, columns)
    assert min(map(min, cells)) >= 0


@settings(max_examples=150)
@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=5))
def test_fit_within_stays_within_weights_that_can_hold_it(truth: list[list[int]]) -> None:
    rows, columns = sums(truth)
    weights = [[int(amount > 0) for amount in line] for line in truth]
    cells = fit_within(rows, columns, weights)
    assert sums(cells) == (rows, columns)
    for line, allowed in zip(cells, weights, strict=True):
        assert all(weight or not amount for amount, weight in zip(line, allowed, strict=True))


def test_fit_within_goes_outside_only_for_what_cannot_stand_inside() -> None:
    # Alice used 10 and Bob 20, the one model 25 and the other 5: the diagonal cannot hold that.
    assert fit_within([10, 20], [25, 5], [[1, 0], [0, 1]]) == [[10, 0], [15, 5]]
