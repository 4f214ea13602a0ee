"""Apportioning: splitting integers so that every share is whole and every total is kept."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

Matrix = list[list[int]]


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Split a total in proportion to weights by the largest remainder method.

    Without any weight the shares are equal.
    """
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    shares = [total * weight // whole for weight in weights]
    rest = total - sum(shares)
    by_remainder = sorted(range(len(weights)), key=lambda at: (-(total * weights[at] % whole), at))
    for at in by_remainder[:rest]:
        shares[at] += 1
    return shares


def independence_table(rows: Sequence[int], columns: Sequence[int]) -> Matrix:
    """Return the whole numbers nearest to independence whose sums are these rows and columns.

    Both margins must have the same total. What rounding down leaves is added by the north-west
    corner rule.
    """
    total = sum(rows)
    cells = [[row * column // total if total else 0 for column in columns] for row in rows]
    _add_missing(cells, rows, columns)
    return cells


def northwest_corner(rows: Sequence[int], columns: Sequence[int]) -> Matrix:
    """Return few cells with these sums, by the north-west corner rule."""
    cells = [[0] * len(columns) for _ in rows]
    _add_missing(cells, rows, columns)
    return cells


def fit_within(rows: Sequence[int], columns: Sequence[int], weights: Matrix) -> Matrix:
    """Return whole numbers with these sums, as far as possible where there is a weight.

    Starts in proportion to the weights and then moves amounts along augmenting paths. What no path
    can place goes to cells without a weight; the sums are exact in any case.
    """
    by_row = [sum(line) for line in weights]
    by_column = [sum(line) for line in zip(*weights, strict=True)]
    cells = [
        [
            min(
                rows[at] * weight // by_row[at] if weight else 0,
                columns[to] * weight // by_column[to] if weight else 0,
            )
            for to, weight in enumerate(line)
        ]
        for at, line in enumerate(weights)
    ]
    lacking, free = _missing(cells, rows, columns)
    while _augment(cells, weights, lacking, free):
        pass
    _add_missing(cells, rows, columns)
    return cells


def _missing(cells: Matrix, rows: Sequence[int], columns: Sequence[int]) -> tuple[list[int], ...]:
    """Return how much rows and columns still lack."""
    sums = [sum(line) for line in zip(*cells, strict=True)]
    return (
        [row - sum(line) for row, line in zip(rows, cells, strict=True)],
        [column - found for column, found in zip(columns, sums, strict=True)],
    )


def _add_missing(cells: Matrix, rows: Sequence[int], columns: Sequence[int]) -> None:
    """Add what is missing, row by row and column by column (the north-west corner rule)."""
    lacking, free = _missing(cells, rows, columns)
    to = 0
    for at, _ in enumerate(lacking):
        while lacking[at]:
            step = min(lacking[at], free[to])
            cells[at][to] += step
            lacking[at] -= step
            free[to] -= step
            to += not free[to]


def _augment(cells: Matrix, weights: Matrix, lacking: list[int], free: list[int]) -> bool:
    """Move as much as one augmenting path takes from a row to a column (Ford-Fulkerson).

    Nodes are rows 0.. and columns -1, -2 ..; a column can return what a row has placed there.
    """
    came_from: dict[int, int | None] = {at: None for at, lack in enumerate(lacking) if lack}
    waiting = deque(came_from)
    while waiting:
        node = waiting.popleft()
        if node < 0 and free[~node]:
            _send(cells, came_from, node, lacking, free)
            return True
        for other in _neighbours(cells, weights, node):
            if other not in came_from:
                came_from[other] = node
                waiting.append(other)
    return False


def _neighbours(cells: Matrix, weights: Matrix, node: int) -> list[int]:
    if node >= 0:
        return [~to for to, weight in enumerate(weights[node]) if weight]
    return [at for at, line in enumerate(cells) if line[~node]]


def _send(
    cells: Matrix,
    came_from: dict[int, int | None],
    end: int,
    lacking: list[int],
    free: list[int],
) -> None:
    path = [end]
    while (previous := came_from[path[-1]]) is not None:
        path.append(previous)
    path.reverse()
    steps = list(pairwise(path))
    back = [cells[to][~at] for at, to in steps if at < 0]
    amount = min([free[~end], lacking[path[0]], *back])
    for at, to in steps:
        if at >= 0:
            cells[at][~to] += amount
        else:
            cells[to][~at] -= amount
    lacking[path[0]] -= amount
    free[~end] -= amount
