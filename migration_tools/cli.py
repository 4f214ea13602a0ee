"""`python -m migration_tools`: the commands, their options, their exit codes."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from migration_tools import commands
from migration_tools.choices import Choices, Kind
from migration_tools.importing.importer import Permissions
from migration_tools.output import CommandOutput, failure, print_output
from shared.errors import UsageError
from shared.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Bring old usage into the ledger, exactly once, and take it out again. Exit codes: 0 done; "
        "1 something differs or was left out; 2 wrong command line; 3 refused, nothing was "
        "changed; 4 a store or database could not be used, run again."
    ),
)

KindOption = Annotated[Kind, typer.Option("--source", help="where the usage comes from")]
Location = Annotated[
    str,
    typer.Option("--from", help="its file or URL; default: Open WebUI's DATABASE_URL or DATA_DIR"),
]
Start = Annotated[
    datetime | None, typer.Option("--start-date", formats=["%Y-%m-%d"], help="first day")
]
End = Annotated[datetime | None, typer.Option("--end-date", formats=["%Y-%m-%d"], help="last day")]
Accept = Annotated[
    bool, typer.Option("--accept-differences", help="take days whose tables disagree all the same")
]
IncludesMarkup = Annotated[
    bool, typer.Option("--raw-cost-includes-markup", help="divide raw_cost by the rate of its day")
]
Markup = Annotated[str, typer.Option(help="rate that is inside the costs of original-influx")]
Folder = Annotated[
    Path, typer.Option("--backup-dir", envvar="USAGE_BACKUP_DIR", help="folder of the backups")
]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on the standard output")]
FOLDER: Path = Settings.model_fields["usage_backup_dir"].default


@app.command()
def status(
    kind: KindOption = Kind.LEGACY,
    location: Location = "",
    folder: Folder = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Look whether everything an import needs is there."""
    choices = Choices(kind=kind, location=location)
    run_command(lambda: commands.status(choices, folder), as_json)


@app.command()
def plan(
    kind: KindOption = Kind.LEGACY,
    location: Location = "",
    start: Start = None,
    end: End = None,
    accept: Accept = False,
    includes_markup: IncludesMarkup = False,
    markup: Markup = "",
    folder: Folder = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Rehearse: what an import would write and what would stay behind; nothing is changed."""
    choices = chosen(kind, location, (start, end), accept, includes_markup, markup)
    run_command(lambda: commands.plan(choices, folder), as_json)


@app.command()
def migrate(
    kind: KindOption = Kind.LEGACY,
    location: Location = "",
    start: Start = None,
    end: End = None,
    accept: Accept = False,
    includes_markup: IncludesMarkup = False,
    markup: Markup = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="the same as plan")] = False,
    without_backup: Annotated[
        bool, typer.Option("--without-backup", help="go on without a copy of the summaries")
    ] = False,
    backup_id: Annotated[str, typer.Option(help="use this backup instead of a new one")] = "",
    project: Annotated[
        bool, typer.Option(help="project the days at once; else the sidecar does it")
    ] = True,
    folder: Folder = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Import: backup, events, organizations, summaries. Run again after a kill, it goes on."""
    choices = chosen(kind, location, (start, end), accept, includes_markup, markup)
    permissions = Permissions(
        without_backup=without_backup, backup_id=backup_id or None, project=project
    )
    if dry_run:
        run_command(lambda: commands.plan(choices, folder), as_json)
    run_command(lambda: commands.migrate(choices, folder, permissions), as_json)


@app.command()
def verify(
    kind: KindOption = Kind.LEGACY,
    location: Location = "",
    start: Start = None,
    end: End = None,
    accept: Accept = False,
    includes_markup: IncludesMarkup = False,
    markup: Markup = "",
    folder: Folder = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Compare source, store and summaries to the last digit."""
    choices = chosen(kind, location, (start, end), accept, includes_markup, markup)
    run_command(lambda: commands.validate(choices, folder), as_json)


@app.command()
def backup(folder: Folder = FOLDER, as_json: AsJson = False) -> None:
    """Copy the summaries while they are in use."""
    run_command(lambda: commands.backup(folder), as_json)


@app.command()
def rollback(
    backup_id: Annotated[str, typer.Option(help="the backup before the import")],
    folder: Folder = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Take out exactly what the import after a backup wrote."""
    run_command(lambda: commands.rollback(folder, backup_id), as_json)


@app.command(name="list")
def list_backups(folder: Folder = FOLDER, as_json: AsJson = False) -> None:
    """List backups and the imports that followed them."""
    run_command(lambda: commands.list_backups(folder), as_json)


def chosen(
    kind: Kind,
    location: str,
    days: tuple[datetime | None, datetime | None],
    accept: bool,
    includes_markup: bool,
    markup: str,
) -> Choices:
    start, end = days
    return Choices(
        kind=kind,
        location=location,
        start=start.date() if start else None,
        end=end.date() if end else None,
        accept_differences=accept,
        raw_includes_markup=includes_markup,
        markup=markup,
    )


def run_command(run: Callable[[], CommandOutput], as_json: bool) -> None:
    """Run a command, print its output and end with its exit code."""
    try:
        output = run()
    except UsageError as error:
        output = failure(error)
    print_output(output, as_json=as_json)
    raise typer.Exit(output.code)
