"""How commands answer: an exit code, a text for a person, and JSON for a script."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from json import dumps
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from migration_tools.importing.importer import Outcome
from migration_tools.importing.plan import Plan
from migration_tools.importing.plan import Progress as Step
from migration_tools.importing.totals import COLUMNS, Figures
from shared.core.money import format_usd, from_pico
from shared.errors import DeliveryError, ProjectionError, UsageError

OK, DIFFERENT, WRONG_COMMAND, REFUSED, UNREACHABLE = 0, 1, 2, 3, 4
_ROWS_SHOWN = 200
_WIDTH_IN_FILES = 160


@dataclass(kw_only=True)
class Answer:
    """What a command found: `data` for scripts, `shown` for a person."""

    code: int = OK
    data: dict[str, Any] = field(default_factory=dict)
    shown: list[RenderableType] = field(default_factory=list)


def failure(error: UsageError) -> Answer:
    """Turn an error into an answer: refused, or not reachable and worth another try."""
    can_pass = isinstance(error, DeliveryError | ProjectionError)
    code = UNREACHABLE if can_pass else REFUSED
    return Answer(code=code, data={"error": str(error), "kind": type(error).__name__})


def print_answer(answer: Answer, *, as_json: bool) -> None:
    """Print JSON to the standard output, or what a person reads, errors to the standard error."""
    if as_json:
        text = dumps(answer.data | {"exit_code": answer.code}, ensure_ascii=False, default=str)
        sys.stdout.write(text + "\n")
        return
    console = _console()
    for part in answer.shown:
        console.print(part, soft_wrap=isinstance(part, str), markup=False)
    if error := answer.data.get("error"):
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Step]:
    """Show a bar on the standard error while something long is done; nothing without a terminal."""
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
    """Say something on the standard error before anything is done."""
    Console(stderr=True, highlight=False).print(sentence, markup=False, soft_wrap=True)


def table(*columns: str, rows: Sequence[Sequence[object]], unlisted: int = 0) -> RenderableType:
    """Return a table; of a very long one its beginning and how much is left out.

    `unlisted` rows are known by their number alone.
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
    """Write to the standard output; into a file or a pipe wide enough that nothing is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH_IN_FILES)


def usd(pico: int) -> str:
    """Write an amount of pico-USD in dollars, every digit of it."""
    amount: Decimal = from_pico(pico)
    return format_usd(amount)


def plan_answer(plan: Plan) -> Answer:
    """Show a plan: figures by organization and day, what stays behind, and the sum of it all."""
    totals = plan.totals
    rows = [
        (place.organization_id, place.local_date, *_shown(plan.figures[place]))
        for place in sorted(plan.figures)
    ]
    columns = ("organization", "day", "requests", "pending", "estimated", "tokens", "cost USD")
    answer = Answer(
        code=DIFFERENT if plan.remarks.is_incomplete else 0,
        data={
            "import_id": plan.import_id,
            "events": plan.events,
            "parts": plan.parts,
            "totals": figures_data(totals),
            "days": [
                {"organization_id": place.organization_id, "local_date": place.local_date}
                | figures_data(plan.figures[place])
                for place in sorted(plan.figures)
            ],
            "remarks": [
                vars(remark) | {"times": times} for remark, times in plan.remarks.listed.items()
            ],
            "remarks_unlisted": plan.remarks.unlisted,
        },
        shown=[table(*columns, rows=[*rows, ("all", "", *_shown(totals))])],
    )
    if plan.remarks.listed:
        answer.shown.append(_remarks(plan))
    return answer


def outcome_data(outcome: Outcome) -> dict[str, Any]:
    """Return how a migration ended."""
    return {
        "backup_id": outcome.backup_id,
        "was_resumed": outcome.was_resumed,
        "days_projected": len(outcome.report.outcomes) - len(outcome.report.failures),
    }


def figures_data(figures: Figures) -> dict[str, Any]:
    """Return figures by name, amounts also as dollars."""
    named = dict(zip(COLUMNS, figures.sums, strict=True))
    return named | {"cost_usd": usd(figures["cost_pico_usd"])}


def _shown(figures: Figures) -> tuple[object, ...]:
    names = ("events", "pending", "estimated", "total_tokens")
    return *(figures[name] for name in names), usd(figures["cost_pico_usd"])


def _remarks(plan: Plan) -> Any:
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
