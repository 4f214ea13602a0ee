"""Cells: users by models of a day that recorded users and models apart."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from migration_tools.sources.legacy.apportion import (
    Matrix,
    fit_within,
    independence_table,
    northwest_corner,
)
from migration_tools.sources.legacy.rows import Portion
from shared.core.ids import digest

Layout = Callable[[Sequence[int], Sequence[int]], Matrix]
# Beyond this many pairs of a person and a model, looking for the best layout takes too long.
_CELLS_MAX = 2000


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one user used of one model on a day; `is_apportioned`: calculated, not recorded.

    A cell without a request holds amounts of requests that other cells count.
    """

    user: str
    model: str
    provider: str
    requests: int
    tokens: int
    pico: int
    is_apportioned: bool


def split_cells(users: Sequence[Portion], models: Sequence[Portion]) -> list[Cell]:
    """Combine users and models so that both margins stay exact in requests, tokens and money.

    Who used which model was not recorded. Of several layouts the first is taken in which every
    amount has a request, else the one with the fewest amounts without; for very many users only one
    is tried.
    """
    if len(users) * len(models) > _CELLS_MAX:
        # Shuffled by a hash, users are a mixture: all three amounts fall into the same cells.
        shuffled = sorted(users, key=lambda user: digest(user.name))
        return _cells_of(shuffled, models, northwest_corner)
    best: list[Cell] = []
    for layout in (independence_table, northwest_corner):
        for ordered in _orders(users, models):
            cells = _cells_of(*ordered, layout)
            if not best or _without_request(cells) < _without_request(best):
                best = cells
            if not _without_request(best):
                return best
    return best


def _without_request(cells: Sequence[Cell]) -> int:
    return sum(not cell.requests for cell in cells)


def _orders(
    users: Sequence[Portion], models: Sequence[Portion]
) -> Iterator[tuple[Sequence[Portion], Sequence[Portion]]]:
    """Return both sides ordered by cost per request, then by tokens: like meets like."""
    if len(users) == 1 or len(models) == 1:
        yield users, models
        return
    for name in ("pico", "tokens"):
        yield _ordered(users, name), _ordered(models, name)


def _ordered(side: Sequence[Portion], name: str) -> list[Portion]:
    return sorted(side, key=lambda row: (-getattr(row, name) // max(1, row.requests), row.name))


def _cells_of(users: Sequence[Portion], models: Sequence[Portion], layout: Layout) -> list[Cell]:
    requests = layout([row.requests for row in users], [row.requests for row in models])
    tokens, pico = (
        _fitting(
            [getattr(row, name) for row in users], [getattr(row, name) for row in models], requests
        )
        for name in ("tokens", "pico")
    )
    return [
        Cell(
            user=user.name,
            model=model.name,
            provider=model.provider,
            requests=requests[at][to],
            tokens=tokens[at][to],
            pico=pico[at][to],
            is_apportioned=len(users) > 1 and len(models) > 1,
        )
        for at, user in enumerate(users)
        for to, model in enumerate(models)
        if requests[at][to] or tokens[at][to] or pico[at][to]
    ]


def _fitting(rows: Sequence[int], columns: Sequence[int], requests: Matrix) -> Matrix:
    """Place amounts where requests are, as far as that is possible."""
    if len(rows) * len(columns) > _CELLS_MAX:
        return northwest_corner(rows, columns)
    return fit_within(rows, columns, requests)
