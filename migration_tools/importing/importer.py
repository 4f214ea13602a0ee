"""The migration: a source comes into the ledger, after a backup, exactly once."""

from dataclasses import dataclass

from migration_tools.backups.backup import check_files, empty_backup, make_backup
from migration_tools.backups.manifest import (
    Backups,
    ImportRecord,
    Manifest,
    changed_days,
    day_records,
)
from migration_tools.backups.rollback import check_deletion
from migration_tools.importing.organizations import (
    bring,
    differing_newcomers,
    unknown_moves,
    unknown_newcomers,
)
from migration_tools.importing.overlap import HELD, Occupancy, find_occupancy
from migration_tools.importing.plan import Plan, Progress, Remarks, make_plan, wanted_events
from migration_tools.importing.writer import write_events, write_side_rows
from migration_tools.ledger import Ledger
from migration_tools.source import DaySpan, Remark, Source
from shared.core.days import ONE_DAY
from shared.errors import MigrationError
from shared.projection.run_report import RunReport


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """What a person has decided: do without a copy, use one that is there, leave summaries be."""

    without_backup: bool = False
    backup_id: str | None = None
    project: bool = True


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a migration ended."""

    backup_id: str
    import_id: str
    events: int
    was_resumed: bool
    report: RunReport


class Migration:
    """One source, one span of days, one ledger."""

    def __init__(self, ledger: Ledger, source: Source, span: DaySpan, backups: Backups) -> None:
        self.ledger = ledger
        self.source = source
        self.span = span
        self.backups = backups

    def occupancy(self) -> Occupancy:
        """Look at what the ledger holds of the days already."""
        settings = self.ledger.settings
        return find_occupancy(
            self.ledger.stores,
            self.source,
            self.span,
            zone=settings.usage_timezone,
            turns=settings.usage_turns,
            now=self.ledger.clock.now(),
        )

    def plan(self, occupancy: Occupancy, progress: Progress = lambda _: None) -> Plan:
        """Add up what would come in. Raises MigrationError when days changed since an import."""
        plan = make_plan(self.source, self.span, occupancy, progress)
        directory = self.source.directory()
        known = self.ledger.summaries.directory()
        for remark in (*directory.remarks, *differing_newcomers(directory, known)):
            plan.remarks.add(remark)
        for organization_id in unknown_newcomers(directory, known):
            plan.remarks.add(_coming(organization_id))
        for organization_id in sorted({name for name, _ in occupancy.held}):
            plan.remarks.add(_held(organization_id))
        return plan

    def run(
        self,
        occupancy: Occupancy,
        plan: Plan,
        permissions: Permissions,
        version: str,
        progress: Progress = lambda _: None,
    ) -> Outcome:
        """Make a backup, write what was planned, bring organizations along, project the days.

        Killed at any moment and run again, it goes on where it was; run twice, it changes nothing.
        """
        with self.backups.locked():
            known = self.backups.of_import(plan.import_id)
            self._refuse_what_cannot_be(plan, known)
            manifest = self._begin(plan, known, permissions, version)
            record = manifest.imported
            assert record is not None
            bring(self.ledger.summaries, self.source.directory(), record)
            self._write(occupancy, plan, manifest, progress)
            if manifest.state != "imported":
                self.backups.save(manifest.model_copy(update={"state": "imported"}))
            report = self._project(record) if permissions.project else RunReport()
        return Outcome(
            backup_id=manifest.backup_id,
            import_id=plan.import_id,
            events=plan.events,
            was_resumed=known is not None,
            report=report,
        )

    def _refuse_what_cannot_be(self, plan: Plan, known: Manifest | None) -> None:
        if known and known.state == "rolling back":
            raise MigrationError(
                f"the rollback of {known.backup_id} was interrupted; finish it first"
            )
        if known and known.imported and self.source.whole_days:
            changed = changed_days(known.imported, plan)
            if changed:
                place, before, now = changed[0]
                raise MigrationError(
                    f"{len(changed)} days are not what {known.backup_id} imported, first "
                    f"{place.organization_id} on {place.local_date}: {before['events']} requests "
                    f"and {before['cost_pico_usd']} pico-USD then, {now['events']} and "
                    f"{now['cost_pico_usd']} now; roll it back first"
                )
        for remark in plan.remarks.listed:
            if remark.what == HELD:
                raise MigrationError(
                    f"{remark.organization_id} on {remark.local_date} came from another database. "
                    "One whose organization was renamed looks like two: roll the other import "
                    "back first"
                )
        if not self.source.keeps_source:
            check_deletion(self.ledger.settings)

    def _begin(
        self, plan: Plan, known: Manifest | None, permissions: Permissions, version: str
    ) -> Manifest:
        """Have a backup, and in its manifest what the import is about to do."""
        manifest = known or self._backup(permissions, version)
        directory, here = self.source.directory(), self.ledger.summaries.directory()
        before = known.imported if known else None
        record = ImportRecord(
            import_id=plan.import_id,
            source=f"{self.source.kind} {self.source.identity}",
            store=self.ledger.target.name,
            keeps_source=self.source.keeps_source,
            digest=plan.digest,
            events=plan.events,
            days=day_records(plan),
            organizations=[
                *(before.organizations if before else []),
                *unknown_newcomers(directory, here),
            ],
            moves=[*(before.moves if before else []), *unknown_moves(directory, here)],
        )
        state = "imported" if known and known.state == "imported" else "importing"
        return self.backups.save(manifest.model_copy(update={"state": state, "imported": record}))

    def _backup(self, permissions: Permissions, version: str) -> Manifest:
        now = self.ledger.clock.now()
        if permissions.without_backup:
            return empty_backup(self.backups, version, now)
        if permissions.backup_id is None:
            url = self.ledger.settings.usage_database_url.get_secret_value()
            return make_backup(self.backups, url, version, now)
        manifest = self.backups.load(permissions.backup_id)
        if manifest.imported:
            raise MigrationError(f"{manifest.backup_id} already belongs to an import")
        if troubles := check_files(self.backups, manifest):
            raise MigrationError("; ".join(troubles))
        return manifest

    def _write(
        self, occupancy: Occupancy, plan: Plan, manifest: Manifest, progress: Progress
    ) -> None:
        done = self.backups.progress(manifest.backup_id, plan.digest)
        if done == plan.events and manifest.state == "imported":
            done = 0  # run again by a person: the store may have lost what it once had

        def note(count: int) -> None:
            self.backups.note_progress(manifest.backup_id, plan.digest, count)
            progress(count)

        events = wanted_events(self.source, self.span, occupancy, Remarks())
        write_events(self.ledger.target, events, done, note)
        write_side_rows(self.ledger.target, self.source.side_rows(self.span))

    def _project(self, record: ImportRecord) -> RunReport:
        if record.first_day is None or record.last_day is None:
            return RunReport()
        # A day of one zone touches the neighbouring dates of another.
        return self.ledger.projection.project_days(
            record.first_day - ONE_DAY, record.last_day + ONE_DAY
        )


def _coming(organization_id: str) -> Remark:
    return Remark(
        organization_id=organization_id,
        local_date=None,
        what="comes along",
        detail="the organization is not known here yet; it is added with its rates and people",
    )


def _held(organization_id: str) -> Remark:
    return Remark(
        organization_id=organization_id,
        local_date=None,
        what="other import",
        detail=(
            "another database brought days of it in this span; if that was this one, before an "
            "organization was renamed, roll that import back first"
        ),
    )
