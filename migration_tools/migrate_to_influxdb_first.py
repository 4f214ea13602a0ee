"""The original's migration script, with its flags: each does what a command of `cli` does."""

import sys
from pathlib import Path
from typing import Annotated

import typer

if __name__ == "__main__":
    # Run by its path, Python knows the script's folder only.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from migration_tools import commands
from migration_tools.choices import Kind
from migration_tools.cli import (
    FOLDER,
    Accept,
    AsJson,
    End,
    Folder,
    IncludesMarkup,
    KindOption,
    Location,
    Markup,
    Start,
    chosen,
    run_command,
)
from migration_tools.importing.importer import Permissions

ValidateOnly = Annotated[bool, typer.Option("--validate-only", help="check, no import")]
Migrate = Annotated[bool, typer.Option("--migrate", help="back up, then import")]
ValidateMigration = Annotated[
    bool, typer.Option("--validate-migration", help="compare source, store and summaries")
]
Rollback = Annotated[bool, typer.Option("--rollback", help="take an import out")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be written")]
BackupId = Annotated[str, typer.Option(help="backup_YYYYMMDD_HHMMSS")]
WithoutBackup = Annotated[
    bool, typer.Option("--without-backup", help="go on without a copy of the summaries")
]


def main(
    validate_only: ValidateOnly = False,
    migrate: Migrate = False,
    validate_migration: ValidateMigration = False,
    rollback: Rollback = False,
    start: Start = None,
    end: End = None,
    dry_run: DryRun = False,
    backup_id: BackupId = "",
    kind: KindOption = Kind.LEGACY,
    location: Location = "",
    accept: Accept = False,
    includes_markup: IncludesMarkup = False,
    markup: Markup = "",
    without_backup: WithoutBackup = False,
    folder: Folder = FOLDER,
    as_json: AsJson = False,
) -> None:
    """Migrate to the usage ledger, as the original's script did.

    Exit codes: 0 done; 1 something differs or was left out; 2 wrong command line; 3 refused,
    nothing was changed; 4 a store or database could not be used, run again.
    """
    choices = chosen(kind, location, (start, end), accept, includes_markup, markup)
    _one_of(validate_only, migrate, validate_migration, rollback)
    if validate_only:
        run_command(lambda: commands.status(choices, folder), as_json)
    if rollback:
        _need(backup_id, "--rollback needs --backup-id")
        run_command(lambda: commands.rollback(folder, backup_id), as_json)
    _need(start and end, "--start-date and --end-date are needed")
    if validate_migration:
        run_command(lambda: commands.validate(choices, folder), as_json)
    if dry_run:
        run_command(lambda: commands.plan(choices, folder), as_json)
    permissions = Permissions(without_backup=without_backup, backup_id=backup_id or None)
    run_command(lambda: commands.migrate(choices, folder, permissions), as_json)


def _one_of(*modes: bool) -> None:
    names = "--validate-only, --migrate, --validate-migration or --rollback"
    _need(sum(modes) == 1, f"say exactly one of {names}")


def _need(given: object, sentence: str) -> None:
    if not given:
        raise typer.BadParameter(sentence)


if __name__ == "__main__":
    typer.run(main)
