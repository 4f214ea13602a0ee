"""The rollback: removes an import from the ledger, exactly, and nothing else."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from migration_tools.backups.manifest import Backups, ImportRecord, Manifest
from migration_tools.importing.organizations import revert_assignments
from migration_tools.ledger import IMPORT_TIMEOUT_MS, Ledger
from shared.core.time import EPOCH
from shared.errors import MigrationError, Misconfigured, RollbackRefused
from shared.event_store.configured import influx_needed
from shared.event_store.influx.influxql import Queries
from shared.event_store.influx.query import InfluxQuery
from shared.event_store.port import EventStore, Window
from shared.projection.run_report import RunReport
from shared.settings import Settings

# Shown before a copy begins, and when its rollback is refused.
COPY_STAYS = (
    "A copy of the embedded store cannot be rolled back: its events look like those that InfluxDB "
    "got from the hosts, so they cannot be told apart. Nothing has to be undone: the embedded "
    "store still holds every one of them, and both stores together count each once. "
    "INFLUXDB_FIRST_ENABLED=false goes back"
)
# No import has this name: deleting it changes nothing on a server that can delete.
_PROBE = "import:probe-of-a-deletion"
_EVER = Window(EPOCH, datetime(2200, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, kw_only=True)
class RollbackOutcome:
    """How a rollback ended; `moved` are users who were assigned otherwise since: that stays."""

    record: ImportRecord
    events: int = 0
    was_done_before: bool = False
    moved: list[str] = field(default_factory=list)
    report: RunReport = field(default_factory=RunReport)


def check_deletion(settings: Settings) -> None:
    """Try a deletion that matches nothing. Raises MigrationError when the store cannot delete.

    The embedded store always can; InfluxDB 3 cannot, and a token may not be allowed to.
    """
    if not settings.influxdb_first_enabled:
        return
    influx = influx_needed(settings, IMPORT_TIMEOUT_MS)
    client, queries = InfluxQuery(influx), Queries(influx.measurement)
    try:
        if not client.delete(queries.source_predicate(_PROBE)):
            client.ask(queries.delete_source(_PROBE), write=True)
    except Misconfigured as error:
        raise MigrationError(
            f"this InfluxDB cannot delete, so an import could never be rolled back: {error}"
        ) from error
    finally:
        client.close()


def roll_back(ledger: Ledger, backups: Backups, backup_id: str) -> RollbackOutcome:
    """Remove what the import after a backup wrote, and project its days again.

    Interrupted and run again, it resumes; run twice, it changes nothing. Raises RollbackRefused,
    with nothing changed, when an exact rollback is impossible.
    """
    with backups.locked():
        manifest = backups.load(backup_id)
        record = manifest.imported
        if record is None:
            raise RollbackRefused(
                f"no import followed {backup_id}: there is nothing to take out. To go back to the "
                "copy itself, see docs/migration.md"
            )
        if manifest.state == "rolled back":
            return RollbackOutcome(record=record, was_done_before=True)
        _check_preconditions(ledger, manifest, record)
        backups.save(manifest.model_copy(update={"state": "rolling back"}))
        # All stores: what was imported into one may have been copied into the other since.
        events = sum(store.delete_import(record.import_id) for store in ledger.stores)
        left = sum(_count_events(store, record.import_id) for store in ledger.stores)
        if left:
            raise RollbackRefused(f"{left} events of {record.import_id} are still in the store")
        moved = revert_assignments(ledger.summaries, record)
        days = {day.local_date for day in record.days}
        report = ledger.project(days, allow_shrink=f"rollback of {backup_id}")
        if not report.failures:
            backups.save(manifest.model_copy(update={"state": "rolled back"}))
        return RollbackOutcome(record=record, events=events, moved=moved, report=report)


def _count_events(store: EventStore, import_id: str) -> int:
    """Count the events of an import in a store, parts of requests included."""
    label = f"import:{import_id}"
    groups = store.usage(_EVER)
    return sum(group.observations for group in groups if group.source == label)


def _check_preconditions(ledger: Ledger, manifest: Manifest, record: ImportRecord) -> None:
    if record.keeps_source:
        raise RollbackRefused(f"{manifest.backup_id}: {COPY_STAYS}")
    if ledger.store_named(record.store) is None:
        raise RollbackRefused(
            f"{manifest.backup_id} went into the store {record.store}, which the settings do not "
            "name any more: set INFLUXDB_URL, INFLUXDB_TOKEN and INFLUXDB_BUCKET as they were"
        )
