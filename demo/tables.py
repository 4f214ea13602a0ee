"""What the demo prints: who spent what, and bill against books."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from rich.console import Console
from rich.table import Table

from demo.compare import PathLine
from demo.plays.world import CLIENTS, NAMES
from shared.core.money import from_pico
from shared.projection.port import ReportRow

_PLACES = Decimal("0.000001")
_CLIENT_NAMES = {client.organization_id: client.name for client in CLIENTS}
_MULTIPLIERS = {client.organization_id: client.multiplier for client in CLIENTS}
_AMOUNT_COLUMNS = (
    "answers", "tokens", "cost USD", "billed USD", "estimated USD", "pending", "unmetered",
)  # fmt: skip
_COMPARED_COLUMNS = (
    "generations", "billed", "hooks see", "booked", "estimated", "pending", "unmetered",
    "difference",
)  # fmt: skip


def print_spend(console: Console, rows: Sequence[ReportRow]) -> None:
    """Print who spent what: by organization and person, then by model, then by task."""
    table = _table("Who spent what", "organization", "markup", "person")
    for organization, multiplier in _MULTIPLIERS.items():
        mine = [row for row in rows if row.organization_id == organization]
        people = sorted({row.external_user for row in mine}, key=lambda user: NAMES.get(user, user))
        for user in people:
            theirs = [row for row in mine if row.external_user == user]
            table.add_row("", "", NAMES.get(user, user), *_amounts(theirs))
        name = _CLIENT_NAMES[organization]
        table.add_row(name, f"x {multiplier}", "", *_amounts(mine), style="bold", end_section=True)
    table.add_row("all", "", "", *_amounts(rows), style="bold")
    console.print(table)
    _print_by(console, "On which models", "model", rows, [row.model for row in rows])
    _print_by(console, "For which tasks", "task", rows, [row.task for row in rows])


def print_comparison(console: Console, lines: Iterable[PathLine], total: Decimal) -> None:
    """Print the demo's own bill beside the books, one line a path."""
    table = Table(title="Bill against books, path by path (USD)", title_justify="left")
    table.add_column("path")
    for name in _COMPARED_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        style = "" if line.agrees else "bold red"
        table.add_row(
            line.path,
            str(line.generations),
            *(_exact(each) for each in (line.charged, line.shown, line.booked, line.estimated)),
            _count(line.pending),
            _count(line.unmetered),
            _exact(line.difference) if line.difference else "0",
            style=style,
        )
    console.print(table)
    console.print(f"summaries hold {_exact(total)} USD, from the same events\n")


def _print_by(
    console: Console, title: str, column: str, rows: Sequence[ReportRow], names: Sequence[str]
) -> None:
    groups: dict[str, list[ReportRow]] = {}
    for name, row in zip(names, rows, strict=True):
        groups.setdefault(name, []).append(row)
    table = _table(title, column)
    for name, group in sorted(groups.items(), key=lambda item: -_cost(item[1])):
        table.add_row(name, *_amounts(group))
    console.print(table)


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name)
    for name in _AMOUNT_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _amounts(rows: Sequence[ReportRow]) -> tuple[str, ...]:
    return (
        f"{sum(row.events for row in rows):,}",
        f"{sum(row.total_tokens for row in rows):,}",
        _rounded(_cost(rows)),
        _rounded(sum(row.billed_pico_usd for row in rows)),
        _rounded(sum(row.estimated_pico_usd for row in rows)),
        _count(sum(row.pending - row.estimated for row in rows)),
        _count(sum(row.unmetered for row in rows)),
    )


def _cost(rows: Iterable[ReportRow]) -> int:
    return sum(row.raw_pico_usd + row.upstream_pico_usd for row in rows)


def _rounded(pico: int) -> str:
    return format(from_pico(pico).quantize(_PLACES), "f") if pico else "-"


def _exact(amount: Decimal) -> str:
    return format(amount.normalize(), "f") if amount else "-"


def _count(number: int) -> str:
    return str(number) if number else "-"
