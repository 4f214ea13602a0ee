"""What the demo prints: who spent what, and its own bill beside what the ledger booked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from rich.console import Console
from rich.table import Table

from demo.plays.traffic import Charge
from demo.plays.world import CLIENTS, NAMES, PATH_WEIGHTS, TASK_PATH
from shared.core.amounts import Amounts
from shared.core.event import UsageEvent
from shared.core.money import from_pico
from shared.core.rows import UnmeteredRow
from shared.summary_db.reports import Grouping, UsageFilter, UsageReports

_PLACES = Decimal("0.000001")
_CLIENT_NAMES = {client.organization_id: client.name for client in CLIENTS}
_MULTIPLIERS = {client.organization_id: client.multiplier for client in CLIENTS}
_GRAIN: tuple[Grouping, ...] = ("organization_id", "external_user", "model", "task")
_AMOUNT_COLUMNS = (
    "answers", "tokens", "cost USD", "billed USD", "estimated USD", "pending", "unmetered",
)  # fmt: skip
_COMPARED_COLUMNS = (
    "generations", "billed", "hooks see", "booked", "estimated", "pending", "unmetered",
    "difference",
)  # fmt: skip


@dataclass(frozen=True)
class SpendRow:
    """What a person used of a model for a task; generations of unknown cost are counted apart."""

    group: Mapping[str, str]
    amounts: Amounts
    unmetered: int = 0

    @property
    def cost_pico_usd(self) -> int:
        return self.amounts.raw_pico_usd + self.amounts.upstream_pico_usd


@dataclass
class PathLine:
    """US dollars and counts of one path: billed, shown to the hooks, booked."""

    path: str
    generations: int = 0
    charged: Decimal = Decimal(0)
    shown: Decimal = Decimal(0)
    booked: Decimal = Decimal(0)
    estimated: Decimal = Decimal(0)
    pending: int = 0
    unmetered: int = 0
    hidden: int = 0

    @property
    def difference(self) -> Decimal:
        return self.shown - self.booked - self.estimated

    @property
    def agrees(self) -> bool:
        """Whether everything that hooks could see is booked, and nothing else."""
        return not self.difference and self.hidden == self.pending + self.unmetered


def compare(
    charges: Sequence[Charge], bills: Iterable[UsageEvent], unmetered: Iterable[UnmeteredRow]
) -> list[PathLine]:
    """Compare charges with booked events; events without a charge are a line of their own."""
    lines = {path: PathLine(path) for path in (*PATH_WEIGHTS, TASK_PATH)}
    paths: dict[str | None, str] = {}
    for charge in charges:
        line = lines[charge.path]
        paths[charge.message_id] = charge.path
        line.generations += charge.generations
        line.charged += charge.cost + charge.upstream
        if charge.shown in ("cost", "estimate"):
            line.shown += charge.cost + charge.upstream
        elif charge.shown in ("pending", "unmetered"):
            line.hidden += 1
    for event in bills:
        path = paths.get(event.message_id, "booked, but never charged")
        line = lines.setdefault(path, PathLine(path))
        line.booked += (event.cost_usd or 0) + (event.upstream_cost_usd or 0)
        line.estimated += event.estimated_cost_usd or 0
        line.pending += event.cost_source == "none"
    for _ in unmetered:
        lines[TASK_PATH].unmetered += 1
    return list(lines.values())


def spend_rows(reports: UsageReports, wanted: UsageFilter) -> list[SpendRow]:
    """Return a row per organization, person, model and task, in that order."""
    rows: dict[tuple[str, ...], SpendRow] = {}
    for line in reports.usage(wanted, _GRAIN):
        rows[tuple(line.group.values())] = SpendRow(line.group, line.amounts)
    for tasks in reports.unmetered(wanted, _GRAIN):
        key = tuple(tasks.group.values())
        known = rows.get(key, SpendRow(tasks.group, Amounts()))
        rows[key] = replace(known, unmetered=tasks.generations)
    return [rows[key] for key in sorted(rows)]


def print_spend(console: Console, rows: Sequence[SpendRow]) -> None:
    """Print who spent what: by organization and person, then by model, then by task."""
    table = _table("Who spent what", "organization", "markup", "person")
    for organization, multiplier in _MULTIPLIERS.items():
        mine = [row for row in rows if row.group["organization_id"] == organization]
        people = sorted(
            {row.group["external_user"] for row in mine}, key=lambda user: NAMES.get(user, user)
        )
        for user in people:
            theirs = [row for row in mine if row.group["external_user"] == user]
            table.add_row("", "", NAMES.get(user, user), *_amounts(theirs))
        name = _CLIENT_NAMES[organization]
        table.add_row(name, f"x {multiplier}", "", *_amounts(mine), style="bold", end_section=True)
    table.add_row("all", "", "", *_amounts(rows), style="bold")
    console.print(table)
    _print_by(console, "On which models", "model", rows, [row.group["model"] for row in rows])
    _print_by(console, "For which tasks", "task", rows, [row.group["task"] for row in rows])


def print_comparison(console: Console, lines: Iterable[PathLine], total: Decimal) -> None:
    """Print the comparison, one line per path."""
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
    console: Console, title: str, column: str, rows: Sequence[SpendRow], names: Sequence[str]
) -> None:
    groups: dict[str, list[SpendRow]] = {}
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


def _amounts(rows: Sequence[SpendRow]) -> tuple[str, ...]:
    total = sum((row.amounts for row in rows), Amounts())
    return (
        f"{total.events:,}",
        f"{total.total_tokens:,}",
        _rounded(_cost(rows)),
        _rounded(total.billed_pico_usd),
        _rounded(total.estimated_pico_usd),
        _count(total.pending - total.estimated),
        _count(sum(row.unmetered for row in rows)),
    )


def _cost(rows: Iterable[SpendRow]) -> int:
    return sum(row.cost_pico_usd for row in rows)


def _rounded(pico: int) -> str:
    return format(from_pico(pico).quantize(_PLACES), "f") if pico else "-"


def _exact(amount: Decimal) -> str:
    return format(amount.normalize(), "f") if amount else "-"


def _count(number: int) -> str:
    return str(number) if number else "-"
