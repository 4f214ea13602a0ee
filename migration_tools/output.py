"""The output of commands: an exit code, text for a person, and JSON for a script."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from json import dumps
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from migration_tools.importing.importer import ImportOutcome
from migration_tools.importing.plan import ImportPlan, ImportProgress
from shared.core.amounts import UNBILLED, Amounts
from shared.core.money import format_usd, from_pico
from shared.errors import DeliveryError, ProjectionError, UsageError
from shared.event_store.sums import STORED

OK, DIFFERENT, WRONG_COMMAND, REFUSED, UNREACHABLE = 0, 1, 2, 3, 4
_ROWS_SHOWN = 200
_WIDTH_IN_FILES = 160


@dataclass(kw_only=True)
class CommandOutput:
    """The result of a command: `data` for scripts, `shown` for a person."""

    code: int = OK
    data: dict[str, Any] = field(default_factory=dict)
    shown: list[RenderableType] = field(default_factory=list)


def failure(error: UsageError) -> CommandOutput:
    """Turn an error into output: refused, or unreachable and worth a retry."""
    can_pass = isinstance(error, DeliveryError | ProjectionError)
    code = UNREACHABLE if can_pass else REFUSED
    return CommandOutput(code=code, data={"error": str(error), "kind": type(error).__name__})


def print_output(output: CommandOutput, *, as_json: bool) -> None:
    """Print to standard output, as JSON or as text; the text of an error goes to standard error."""
    if as_json:
        text = dumps(output.data | {"exit_code": output.code}, ensure_ascii=False, default=str)
        sys.stdout.write(text + "\n")
        return
    console = _console()
    for item in output.shown:
        console.print(item, soft_wrap=isinstance(item, str), markup=False)
    if error := output.data.get("error"):
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[ImportProgress]:
    """Show a progress bar on standard error; nothing without a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.update(task, completed=count)


def notice(sentence: str) -> None:
    """Print to standard error before anything is done."""
    Console(stderr=True, highlight=False).print(sentence, markup=False, soft_wrap=True)


def table(*columns: str, rows: Sequence[Sequence[object]], unlisted: int = 0) -> RenderableType:
    """Return a table; a very long one is cut, with the number of rows left out.

    Of `unlisted` rows only the number is known.
    """
    shown = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows[:_ROWS_SHOWN]:
        shown.add_row(*map(str, row))
    if more := len(rows[_ROWS_SHOWN:]) + unlisted:
        shown.caption = (
            f"and {more} more; --json has {f'{len(rows)} of all' if unlisted else 'all'}"
        )
    return shown


def _console() -> Console:
    """Return standard output; a file or a pipe is wide enough that nothing is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH_IN_FILES)


def usd(pico: int) -> str:
    """Format an amount of pico-USD in dollars, with every digit."""
    return format_usd(from_pico(pico))


def plan_output(plan: ImportPlan) -> CommandOutput:
    """Show a plan: totals by organization and day and of all, and what is left out."""
    totals = plan.totals
    rows = [
        (org_day.organization_id, org_day.local_date, *_shown(plan.by_day[org_day]))
        for org_day in sorted(plan.by_day)
    ]
    columns = ("organization", "day", "requests", "pending", "estimated", "tokens", "cost USD")
    output = CommandOutput(
        code=DIFFERENT if plan.remarks.is_incomplete else 0,
        data={
            "import_id": plan.import_id,
            "events": plan.events,
            "parts": plan.parts,
            "totals": totals_data(totals),
            "days": [
                {"organization_id": org_day.organization_id, "local_date": org_day.local_date}
                | totals_data(plan.by_day[org_day])
                for org_day in sorted(plan.by_day)
            ],
            "remarks": [
                vars(remark) | {"times": times} for remark, times in plan.remarks.listed.items()
            ],
            "remarks_unlisted": plan.remarks.unlisted,
        },
        shown=[table(*columns, rows=[*rows, ("all", "", *_shown(totals))])],
    )
    if plan.remarks.listed:
        output.shown.append(_remarks(plan))
    return output


def outcome_data(outcome: ImportOutcome) -> dict[str, Any]:
    return {
        "backup_id": outcome.backup_id,
        "was_resumed": outcome.was_resumed,
        "days_projected": len(outcome.report.outcomes) - len(outcome.report.failures),
    }


def totals_data(totals: Amounts) -> dict[str, Any]:
    """Return totals by name, the cost also in dollars."""
    named = {STORED.get(name, name): getattr(totals, name) for name in UNBILLED}
    return named | {"cost_usd": usd(totals.raw_pico_usd)}


def _shown(totals: Amounts) -> tuple[object, ...]:
    counts = (totals.events, totals.pending, totals.estimated, totals.total_tokens)
    return *counts, usd(totals.raw_pico_usd)


def _remarks(plan: ImportPlan) -> Any:
    rows = [
        (
            remark.organization_id,
            remark.local_date or "",
            "left out" if remark.left_out else "",
            remark.what,
            f"{remark.detail}{f' ({times} times)' if times > 1 else ''}",
        )
        for remark, times in plan.remarks.listed.items()
    ]
    columns = ("organization", "day", "", "what", "")
    return table(*columns, rows=rows, unlisted=plan.remarks.unlisted)
