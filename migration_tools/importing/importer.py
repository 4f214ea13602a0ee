"""The import of a source into the ledger, after a backup, exactly once."""

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
    apply_organizations,
    differing_organizations,
    new_assignments,
    new_organizations,
)
from migration_tools.importing.overlap import OTHER_IMPORT_DAY, check_overlap
from migration_tools.importing.plan import (
    ImportPlan,
    ImportProgress,
    Remarks,
    make_plan,
    wanted_events,
)
from migration_tools.importing.writer import write_events, write_side_rows
from migration_tools.ledger import Ledger
from migration_tools.source import DaySpan, Remark, Source
from shared.errors import MigrationError
from shared.projection.run_report import RunReport

_NEW = "the organization is not known here yet; it is added with its rates and people"
_OTHER_IMPORT = (
    "another database brought days of it in this span; if that was this one, before an "
    "organization was renamed, roll that import back first"
)


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """Options of a run: without a new backup, with an existing one, without projection."""

    without_backup: bool = False
    backup_id: str | None = None
    project: bool = True


@dataclass(frozen=True, kw_only=True)
class ImportOutcome:
    backup_id: str
    import_id: str
    events: int
    was_resumed: bool
    report: RunReport


class Migration:
    """The import of one span of one source; its `overlap` must be closed."""

    def __init__(self, ledger: Ledger, source: Source, span: DaySpan, backups: Backups) -> None:
        self.ledger = ledger
        self.source = source
        self.span = span
        self.backups = backups
        self.overlap = check_overlap(
            ledger.stores,
            source,
            span,
            zone=ledger.settings.usage_timezone,
            turns=ledger.settings.usage_turns,
            now=ledger.clock.now(),
        )

    def plan(self, progress: ImportProgress = lambda _: None) -> ImportPlan:
        """Add up what would be imported, and add warnings about organizations."""
        plan = make_plan(self.source, self.span, self.overlap, progress)
        directory = self.source.directory()
        known = self.ledger.summaries.organizations.directory()
        for remark in (*directory.remarks, *differing_organizations(directory, known)):
            plan.remarks.add(remark)
        for organization_id in new_organizations(directory, known):
            plan.remarks.add(
                Remark(organization_id=organization_id, what="comes along", detail=_NEW)
            )
        for organization_id in sorted({name for name, _ in self.overlap.other_import_days}):
            plan.remarks.add(
                Remark(organization_id=organization_id, what="other import", detail=_OTHER_IMPORT)
            )
        return plan

    def run(
        self,
        plan: ImportPlan,
        permissions: Permissions,
        version: str,
        progress: ImportProgress = lambda _: None,
    ) -> ImportOutcome:
        """Make a backup, write events, organizations and assignments, project the days.

        Killed at any moment and run again, it resumes; run twice, it changes nothing.
        """
        with self.backups.locked():
            known = self.backups.of_import(plan.import_id)
            self._check_preconditions(plan, known)
            manifest = self._begin(plan, known, permissions, version)
            record = manifest.imported
            assert record is not None
            apply_organizations(self.ledger.summaries, self.source.directory(), record)
            self._write(plan, manifest, progress)
            if manifest.state != "imported":
                self.backups.save(manifest.model_copy(update={"state": "imported"}))
            days = {day.local_date for day in plan.by_day} if permissions.project else set()
            report = self.ledger.project(days)
        return ImportOutcome(
            backup_id=manifest.backup_id,
            import_id=plan.import_id,
            events=plan.events,
            was_resumed=known is not None,
            report=report,
        )

    def _check_preconditions(self, plan: ImportPlan, known: Manifest | None) -> None:
        if known and known.state == "rolling back":
            raise MigrationError(
                f"the rollback of {known.backup_id} was interrupted; finish it first"
            )
        if known and known.imported and self.source.whole_days:
            changed = changed_days(known.imported, plan)
            if changed:
                first, before, now = changed[0]
                raise MigrationError(
                    f"{len(changed)} days are not what {known.backup_id} imported, first "
                    f"{first.organization_id} on {first.local_date}: {before.events} requests "
                    f"and {before.raw_pico_usd} pico-USD then, {now.events} and "
                    f"{now.raw_pico_usd} now; roll it back first"
                )
        for remark in plan.remarks.listed:
            if remark.what == OTHER_IMPORT_DAY:
                raise MigrationError(
                    f"{remark.organization_id} on {remark.local_date} came from another database. "
                    "One whose organization was renamed looks like two: roll the other import "
                    "back first"
                )
        if not self.source.keeps_source:
            check_deletion(self.ledger.settings)

    def _begin(
        self, plan: ImportPlan, known: Manifest | None, permissions: Permissions, version: str
    ) -> Manifest:
        """Make or find the backup, and record in its manifest what the import will do."""
        manifest = known or self._backup(permissions, version)
        directory, here = self.source.directory(), self.ledger.summaries.organizations.directory()
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
                *new_organizations(directory, here),
            ],
            moves=[*(before.moves if before else []), *new_assignments(directory, here)],
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

    def _write(self, plan: ImportPlan, manifest: Manifest, progress: ImportProgress) -> None:
        done = self.backups.progress(manifest.backup_id, plan.digest)
        if done == plan.events and manifest.state == "imported":
            done = 0  # run again on purpose: the store may have lost what it once had

        def note(count: int) -> None:
            self.backups.note_progress(manifest.backup_id, plan.digest, count)
            progress(count)

        events = wanted_events(self.source, self.span, self.overlap, Remarks())
        write_events(self.ledger.target, events, done, note)
        write_side_rows(self.ledger.target, self.source.side_rows(self.span))
