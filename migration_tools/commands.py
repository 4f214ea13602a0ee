"""The commands of the migration tools, as `cli` and the original's flags call them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from migration_tools.backups.backup import check_files, make_backup
from migration_tools.backups.manifest import Backups, Manifest
from migration_tools.backups.rollback import COPY_STAYS, check_deletion, roll_back
from migration_tools.choices import Choices, Kind, open_source
from migration_tools.importing.importer import Migration, Permissions
from migration_tools.importing.plan import ImportPlan
from migration_tools.importing.verification import ImportDifferences, verify
from migration_tools.ledger import Ledger
from migration_tools.output import (
    DIFFERENT,
    REFUSED,
    UNREACHABLE,
    CommandOutput,
    notice,
    outcome_data,
    plan_output,
    progress,
    table,
)
from shared.core.version import read_version
from shared.errors import MigrationError
from shared.projection.run_report import DayOutcome
from shared.settings import Settings


def status(choices: Choices, folder: Path) -> CommandOutput:
    """Check what an import needs; changes nothing, except that missing schemas are created."""
    settings = Settings.load()
    rows: list[tuple[str, bool, str]] = []
    with Ledger(settings) as ledger:
        health = ledger.target.health()
        rows.append((f"event store ({ledger.target.name})", health.ok, health.detail))
        organizations = len(ledger.summaries.organizations.directory().organizations)
        rows.append(("summaries", True, f"{organizations} organizations"))
    checks: list[tuple[str, Callable[[], str]]] = [
        ("rollback", lambda: _check_rollback(choices, settings)),
        ("source", lambda: _check_source(choices, settings)),
        ("backups", lambda: f"{len(Backups(folder).all())} in {folder}"),
    ]
    for name, check in checks:
        try:
            rows.append((name, True, check()))
        except MigrationError as error:
            rows.append((name, False, str(error)))
    listed = [{"check": name, "ok": ok, "detail": detail} for name, ok, detail in rows]
    marked = [(name, "ok" if ok else "NO", detail) for name, ok, detail in rows]
    code = 0 if all(ok for _, ok, _ in rows) else REFUSED
    return CommandOutput(
        code=code, data={"checks": listed}, shown=[table("check", "", "", rows=marked)]
    )


def plan(choices: Choices, folder: Path) -> CommandOutput:
    """Show what an import would write, to the last digit, and what would be left out and why."""
    with _planned(choices, folder) as (migration, found):
        output = _planned_output(migration, found)
        if migration.source.keeps_source:
            output.shown.append(COPY_STAYS)
    return output


def migrate(choices: Choices, folder: Path, permissions: Permissions) -> CommandOutput:
    """Import a source: backup, events, organizations, summaries."""
    with _planned(choices, folder) as (migration, found):
        output = _planned_output(migration, found)
        if not found.events:
            output.shown.append("nothing to import")
            return output
        if migration.source.keeps_source:
            notice(COPY_STAYS)
        with progress("importing", found.events) as step:
            outcome = migration.run(found, permissions, read_version(), step)
    output.data |= outcome_data(outcome)
    again = " (continued)" if outcome.was_resumed else ""
    output.shown.append(
        f"{outcome.import_id}: {outcome.events} events are in the ledger{again}; "
        f"backup {outcome.backup_id}"
    )
    if outcome.report.failures:
        output.code = UNREACHABLE
        output.data["error"] = _failures(outcome.report.failures)
    return output


def validate(choices: Choices, folder: Path) -> CommandOutput:
    """Compare source, store and summaries; any difference ends with exit code 1."""
    with _planned(choices, folder) as (migration, found):
        output = plan_output(found)
        differences = ImportDifferences()
        differences.add(verify(migration, found))
    output.data["differences"] = [vars(each) for each in differences.listed]
    output.data["differences_unlisted"] = differences.unlisted
    if differences:
        output.code = DIFFERENT
        columns = ("organization", "day", "where", "what", "expected", "found")
        rows = [tuple(vars(each).values()) for each in differences.listed]
        output.shown.append(table(*columns, rows=rows, unlisted=differences.unlisted))
        output.data["error"] = f"{len(differences)} differences"
    else:
        output.shown.append("source, store and summaries agree to the last digit")
    return output


def backup(folder: Path) -> CommandOutput:
    settings = Settings.load()
    with Ledger(settings) as ledger:
        url = settings.usage_database_url.get_secret_value()
        manifest = make_backup(Backups(folder), url, read_version(), ledger.clock.now())
    [file] = manifest.files
    path = folder / manifest.backup_id / file.name
    return CommandOutput(
        data={"backup_id": manifest.backup_id, "path": str(path), "bytes": file.bytes},
        shown=[f"{manifest.backup_id}: {file.bytes} bytes in {path}"],
    )


def rollback(folder: Path, backup_id: str) -> CommandOutput:
    with Ledger(Settings.load()) as ledger:
        outcome = roll_back(ledger, Backups(folder), backup_id)
    record = outcome.record
    if outcome.was_done_before:
        line = f"{backup_id} was rolled back before; nothing was changed"
    else:
        line = f"{outcome.events} events of {record.import_id} were taken out"
    output = CommandOutput(
        data={
            "backup_id": backup_id,
            "import_id": record.import_id,
            "events_deleted": outcome.events,
            "was_done_before": outcome.was_done_before,
            "organizations_that_stay": record.organizations,
            "users_moved_since": outcome.moved,
        },
        shown=[line],
    )
    if record.organizations:
        output.shown.append(
            f"organizations stay, without this usage: {', '.join(record.organizations)}"
        )
    if outcome.moved:
        output.shown.append(f"users moved since stay where they are: {', '.join(outcome.moved)}")
    if outcome.report.failures:
        output.code = UNREACHABLE
        output.data["error"] = _failures(outcome.report.failures)
    return output


def list_backups(folder: Path) -> CommandOutput:
    """List all backups with their imports, and check their files."""
    backups = Backups(folder)
    rows = [(each, check_files(backups, each)) for each in backups.all()]
    listed = [
        {
            "backup_id": each.backup_id,
            "created_at": each.created_at,
            "state": each.state,
            "import_id": each.imported.import_id if each.imported else None,
            "events": each.imported.events if each.imported else 0,
            "rollback": _rollback_of(each),
            "files": [file.name for file in each.files],
            "troubles": troubles,
        }
        for each, troubles in rows
    ]
    shown = [_backup_row(each, troubles) for each, troubles in rows]
    columns = ("backup", "state", "import", "events", "rollback", "files")
    return CommandOutput(
        code=DIFFERENT if any(troubles for _, troubles in rows) else 0,
        data={"backups": listed},
        shown=[table(*columns, rows=shown) if rows else f"no backup in {folder}"],
    )


@contextmanager
def _planned(choices: Choices, folder: Path) -> Iterator[tuple[Migration, ImportPlan]]:
    settings = Settings.load()
    with (
        Ledger(settings) as ledger,
        closing(open_source(choices, settings)) as source,
    ):
        migration = Migration(ledger, source, choices.span, Backups(folder))
        with migration.overlap, progress("reading") as step:
            yield migration, migration.plan(step)


def _planned_output(migration: Migration, found: ImportPlan) -> CommandOutput:
    output = plan_output(found)
    output.data["rollback"] = COPY_STAYS if migration.source.keeps_source else "possible"
    return output


def _check_rollback(choices: Choices, settings: Settings) -> str:
    if choices.kind is Kind.EMBEDDED:
        return COPY_STAYS
    check_deletion(settings)
    return "the store can take an import out again"


def _rollback_of(manifest: Manifest) -> str:
    if manifest.imported is None:
        return "no import to take out"
    if manifest.imported.keeps_source:
        return "none: a copy, with nothing to undo"
    return "done" if manifest.state == "rolled back" else "possible"


def _check_source(choices: Choices, settings: Settings) -> str:
    with closing(open_source(choices, settings)) as source:
        return f"{source.kind} {source.identity}"


def _failures(failures: Sequence[DayOutcome]) -> str:
    return "; ".join(f"{each.day or 'no day'}: {each.error}" for each in failures)


def _backup_row(manifest: Manifest, troubles: list[str]) -> tuple[object, ...]:
    imported = manifest.imported
    files = "; ".join(troubles) or ", ".join(file.name for file in manifest.files) or "none"
    name = imported.import_id if imported else ""
    events = imported.events if imported else ""
    return manifest.backup_id, manifest.state, name, events, _rollback_of(manifest), files
