"""The commands of the migration tools, each an answer: what `cli` and the original's flags call."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from migration_tools.backups.backup import check_files, make_backup
from migration_tools.backups.manifest import Backups, Manifest
from migration_tools.backups.rollback import COPY_STAYS, check_deletion, roll_back
from migration_tools.choices import Choices, Kind, open_source
from migration_tools.importing.importer import Migration, Permissions
from migration_tools.importing.overlap import Occupancy
from migration_tools.importing.plan import Plan
from migration_tools.importing.verification import Differences, verify
from migration_tools.ledger import Ledger
from migration_tools.output import (
    DIFFERENT,
    REFUSED,
    UNREACHABLE,
    Answer,
    notice,
    outcome_data,
    plan_answer,
    progress,
    table,
)
from shared.errors import MigrationError
from shared.projection.run_report import DayOutcome
from shared.settings import Settings


def status(choices: Choices, folder: Path) -> Answer:
    """Look whether everything an import needs is there; change nothing but make missing schemas."""
    settings = Settings.load()
    rows: list[tuple[str, bool, str]] = []
    with Ledger(settings) as ledger:
        health = ledger.target.health()
        rows.append((f"event store ({ledger.target.name})", health.ok, health.detail))
        organizations = len(ledger.summaries.directory().organizations)
        rows.append(("summaries", True, f"{organizations} organizations"))
    checks: list[tuple[str, Callable[[], str]]] = [
        ("rollback", lambda: _undoing(choices, settings)),
        ("source", lambda: _readable(choices, settings)),
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
    return Answer(code=code, data={"checks": listed}, shown=[table("check", "", "", rows=marked)])


def plan(choices: Choices, folder: Path) -> Answer:
    """Say what an import would write, to the last digit, and what would stay behind and why."""
    with _planned(choices, folder) as (migration, _, found):
        answer = _planned_answer(migration, found)
        if migration.source.keeps_source:
            answer.shown.append(COPY_STAYS)
        return answer


def migrate(choices: Choices, folder: Path, permissions: Permissions) -> Answer:
    """Bring a source in: backup, events, organizations, summaries."""
    with _planned(choices, folder) as (migration, occupancy, found):
        answer = _planned_answer(migration, found)
        if not found.events:
            answer.shown.append("nothing to import")
            return answer
        if migration.source.keeps_source:
            notice(COPY_STAYS)
        with progress("importing", found.events) as step:
            outcome = migration.run(occupancy, found, permissions, version(), step)
    answer.data |= outcome_data(outcome)
    again = " (continued)" if outcome.was_resumed else ""
    answer.shown.append(
        f"{outcome.import_id}: {outcome.events} events are in the ledger{again}; "
        f"backup {outcome.backup_id}"
    )
    if outcome.report.failures:
        answer.code = UNREACHABLE
        answer.data["error"] = _failures(outcome.report.failures)
    return answer


def validate(choices: Choices, folder: Path) -> Answer:
    """Compare source, store and summaries; any difference ends with exit code 1."""
    with _planned(choices, folder) as (migration, occupancy, found):
        answer = plan_answer(found)
        differences = Differences()
        differences.note(verify(migration.ledger, migration.source, occupancy, found))
    answer.data["differences"] = [vars(each) for each in differences.listed]
    answer.data["differences_unlisted"] = differences.unlisted
    if differences:
        answer.code = DIFFERENT
        columns = ("organization", "day", "where", "what", "expected", "found")
        rows = [tuple(vars(each).values()) for each in differences.listed]
        answer.shown.append(table(*columns, rows=rows, unlisted=differences.unlisted))
        answer.data["error"] = f"{len(differences)} differences"
    else:
        answer.shown.append("source, store and summaries agree to the last digit")
    return answer


def backup(folder: Path) -> Answer:
    """Copy the summaries, with a manifest."""
    settings = Settings.load()
    with Ledger(settings) as ledger:
        url = settings.usage_database_url.get_secret_value()
        manifest = make_backup(Backups(folder), url, version(), ledger.clock.now())
    [file] = manifest.files
    path = folder / manifest.backup_id / file.name
    return Answer(
        data={"backup_id": manifest.backup_id, "path": str(path), "bytes": file.bytes},
        shown=[f"{manifest.backup_id}: {file.bytes} bytes in {path}"],
    )


def rollback(folder: Path, backup_id: str) -> Answer:
    """Take the import after a backup out again."""
    with Ledger(Settings.load()) as ledger:
        undone = roll_back(ledger, Backups(folder), backup_id)
    if undone.was_done_before:
        said = f"{backup_id} was rolled back before; nothing was changed"
    else:
        said = f"{undone.events} events of {undone.import_id} were taken out"
    answer = Answer(
        data={
            "backup_id": backup_id,
            "import_id": undone.import_id,
            "events_deleted": undone.events,
            "was_done_before": undone.was_done_before,
            "organizations_that_stay": list(undone.stays),
            "users_moved_since": list(undone.moved),
        },
        shown=[said],
    )
    if undone.stays:
        answer.shown.append(f"organizations stay, without this usage: {', '.join(undone.stays)}")
    if undone.moved:
        answer.shown.append(f"users moved since stay where they are: {', '.join(undone.moved)}")
    if undone.report.failures:
        answer.code = UNREACHABLE
        answer.data["error"] = _failures(undone.report.failures)
    return answer


def list_backups(folder: Path) -> Answer:
    """List all backups, what followed them, and whether their files are as they were saved."""
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
    return Answer(
        code=DIFFERENT if any(troubles for _, troubles in rows) else 0,
        data={"backups": listed},
        shown=[table(*columns, rows=shown) if rows else f"no backup in {folder}"],
    )


def version() -> str:
    """Return the version of these tools: the first heading of the change log."""
    changes = Path(__file__).resolve().parents[1] / "CHANGELOG.md"
    try:
        lines = changes.read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line[3:].strip() for line in lines if line.startswith("## ")), "unknown")


@contextmanager
def _planned(choices: Choices, folder: Path) -> Iterator[tuple[Migration, Occupancy, Plan]]:
    settings = Settings.load()
    with (
        Ledger(settings) as ledger,
        closing(open_source(choices, settings)) as source,
    ):
        migration = Migration(ledger, source, choices.span, Backups(folder))
        with migration.occupancy() as occupancy, progress("reading") as step:
            found = migration.plan(occupancy, step)
            yield migration, occupancy, found


def _planned_answer(migration: Migration, found: Plan) -> Answer:
    answer = plan_answer(found)
    answer.data["rollback"] = COPY_STAYS if migration.source.keeps_source else "possible"
    return answer


def _undoing(choices: Choices, settings: Settings) -> str:
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


def _readable(choices: Choices, settings: Settings) -> str:
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
