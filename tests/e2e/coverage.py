"""The coverage table: path by path, what was billed and what the books show of it."""

from dataclasses import dataclass
from decimal import Decimal

from tests.e2e.account import Account
from tests.e2e.fates import Fate

_TITLES = {
    "function": "Function only",
    "pipelines": "Pipelines only",
    "both": "Function, then Pipelines",
    "both, other order": "Pipelines, then Function",
}
_HEADS = (
    "path",
    "billed",
    "billed USD",
    "booked USD",
    "pending",
    "estimated",
    "unmetered",
    "no hook",
    "difference USD",
)


@dataclass(frozen=True)
class Line:
    """One path of the table."""

    installed: str
    path: str
    account: Account

    def cells(self) -> tuple[str, ...]:
        """Return the line as it is printed; generations as counts, money in full."""
        account = self.account
        return (
            self.path,
            str(account.billed_generations),
            _usd(account.billed_usd()),
            _usd(account.booked_usd),
            _count(account.count(Fate.PENDING)),
            _count(account.count(Fate.ESTIMATED)),
            _count(account.count(Fate.UNMETERED)),
            _count(account.count(Fate.HIDDEN)),
            _usd(account.difference_usd),
        )


def coverage_table(lines: list[Line]) -> str:
    """Write the lines as Markdown, one table per kind of installation, each with its sum."""
    return "\n\n".join(
        f"### {title}\n\n{_table([line for line in lines if line.installed == installed])}"
        for installed, title in _TITLES.items()
        if any(line.installed == installed for line in lines)
    )


def _table(lines: list[Line]) -> str:
    rows = [_HEADS, *(line.cells() for line in lines), _sum(lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    rule = "|" + "|".join(
        "-" * (width + 2) if column == 0 else "-" * (width + 1) + ":"
        for column, width in enumerate(widths)
    )
    written = [
        "| "
        + " | ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    return "\n".join([written[0], rule + "|", *written[1:]])


def _sum(lines: list[Line]) -> tuple[str, ...]:
    accounts = [line.account for line in lines]
    zero = Decimal(0)
    return (
        "**sum**",
        str(sum(account.billed_generations for account in accounts)),
        _usd(sum((account.billed_usd() for account in accounts), zero)),
        _usd(sum((account.booked_usd for account in accounts), zero)),
        *(
            _count(sum(account.count(fate) for account in accounts))
            for fate in (Fate.PENDING, Fate.ESTIMATED, Fate.UNMETERED, Fate.HIDDEN)
        ),
        _usd(sum((account.difference_usd for account in accounts), zero)),
    )


def _usd(amount: Decimal) -> str:
    text = format(amount, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if text not in ("", "-0") else "0"


def _count(number: int) -> str:
    return str(number) if number else ""
