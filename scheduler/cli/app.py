"""The operator's commands: run, project, verify."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Annotated

import typer
from rich.table import Table

from scheduler.cli import organizations as organization_commands
from scheduler.cli import spool as spool_commands
from scheduler.cli.console import OUT, fail
from scheduler.cli.influx_tokens import influx_tokens
from scheduler.process.serving import serve
from scheduler.process.sidecar import Sidecar
from shared.errors import UsageError
from shared.projection.audit import Difference
from shared.settings import Settings

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The usage ledger's sidecar: events from the spools into the store, days into summaries.",
)
app.add_typer(spool_commands.app, name="spool")
app.add_typer(organization_commands.app, name="organization")
app.command(name="influx-tokens")(influx_tokens)


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Run the sidecar, unless a command says what else to do."""
    if context.invoked_subcommand is None:
        run()


@app.command()
def run() -> None:
    """Run the sidecar and its API until SIGTERM or Ctrl-C: drain, project, daily run."""
    try:
        serve(Settings.load())
    except UsageError as error:
        fail(str(error))


@app.command()
def project(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="first day")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="last day")],
    allow_shrink: Annotated[
        str, typer.Option(help="why there may be fewer events than were known; goes on record")
    ] = "",
    drain: Annotated[bool, typer.Option(help="deliver what waits in the spools first")] = True,
) -> None:
    """Project local days, both ends included, whether they changed or not."""
    with opened() as sidecar:
        if drain:
            sidecar.drain()
        report = sidecar.project(*_days(first, last), allow_shrink or None)
    OUT.print(
        f"{len(report.outcomes) - len(report.failures)} days projected, one per zone: "
        f"{report.rows_written} rows changed, {report.corrections} corrections"
    )
    if report.failures:
        # The log has the reason of each.
        fail(f"{len(report.failures)} days were not projected and keep their summaries")


@app.command()
def verify(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="first day")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="last day")],
) -> None:
    """Recompute the summaries from the events; exits with 1 on any difference."""
    with opened() as sidecar:
        differences = sidecar.verify(*_days(first, last))
    if differences:
        OUT.print(_table(differences))
        fail(f"{len(differences)} differences between the summaries and the events")
    OUT.print("summaries and events agree to the last digit")


@contextmanager
def opened() -> Iterator[Sidecar]:
    """Open the sidecar from the environment; an error ends the command with its message."""
    try:
        with Sidecar(Settings.load()) as sidecar:
            yield sidecar
    except UsageError as error:
        fail(str(error))


def _days(first: datetime, last: datetime) -> tuple[date, date]:
    if last < first:
        fail(f"--to {last:%Y-%m-%d} lies before --from {first:%Y-%m-%d}")
    return first.date(), last.date()


def _table(differences: list[Difference]) -> Table:
    table = Table("day", "organization", "row", "what", "stored", "computed")
    for each in differences:
        table.add_row(
            str(each.local_date),
            each.organization_id,
            each.subject,
            each.what,
            each.stored,
            each.computed,
        )
    return table
