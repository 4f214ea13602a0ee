"""Cells: what people used of models on a day that recorded people and models apart."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from migration_tools.sources.legacy.apportion import Matrix, fill, fill_corner, fill_within
from migration_tools.sources.legacy.rows import Portion
from shared.core.ids import digest

Layout = Callable[[Sequence[int], Sequence[int]], Matrix]
# Beyond this many pairs of a person and a model, looking for the best layout takes too long.
_CELLS_MAX = 2000


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one user used of one model on a day; `is_apportioned` tells that nobody recorded it.

    One without a request holds amounts of requests that other cells count.
    """

    user: str
    model: str
    provider: str
    requests: int
    tokens: int
    pico: int
    is_apportioned: bool


def split_cells(users: Sequence[Portion], models: Sequence[Portion]) -> list[Cell]:
    """Put people and models together so that both sides come out exactly, requests and amounts.

    Nobody recorded who used which model. Of several layouts the first is taken in which every
    amount stands at a request, else the one with the fewest that do not; on a day of very many
    people one is tried.
    """
    if len(users) * len(models) > _CELLS_MAX:
        # Shuffled by a hash people are a mixture, so that all three amounts meet in the same cells.
        shuffled = sorted(users, key=lambda user: digest(user.name))
        return _cells_of(shuffled, models, fill_corner)
    best: list[Cell] = []
    for layout in (fill, fill_corner):
        for ordered in _orders(users, models):
            cells = _cells_of(*ordered, layout)
            if not best or _parts(cells) < _parts(best):
                best = cells
            if not _parts(best):
                return best
    return best


def _parts(cells: Sequence[Cell]) -> int:
    return sum(not cell.requests for cell in cells)


def _orders(
    users: Sequence[Portion], models: Sequence[Portion]
) -> Iterator[tuple[Sequence[Portion], Sequence[Portion]]]:
    """Return both sides by what a request of theirs costs, then by its tokens: like meets like."""
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
    """Put amounts where requests are, as far as they can stand there."""
    if len(rows) * len(columns) > _CELLS_MAX:
        return fill_corner(rows, columns)
    return fill_within(rows, columns, requests)
