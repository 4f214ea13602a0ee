"""The manifest of a backup: its files, and the progress of the import that followed it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from migration_tools.importing.plan import ImportPlan, OrganizationDay
from shared.core.amounts import UNBILLED, Amounts
from shared.core.file_lock import lock_file
from shared.errors import MigrationError

State = Literal["backed up", "importing", "imported", "rolling back", "rolled back"]
_BACKUP_ID = re.compile(r"backup_\d{8}_\d{6}")
_MANIFEST, _PROGRESS = "manifest.json", "progress"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SavedFile(_Record):
    """A file of a backup with its checksum."""

    name: str
    bytes: int
    sha256: str


class SavedDatabase(_Record):
    """A saved database: its kind and versions, rows by table, and exact sums by column."""

    kind: Literal["sqlite", "postgresql"]
    version: str
    schema_revision: str
    rows: dict[str, int]
    sums: dict[str, int]


class DayRecord(_Record):
    """What an import wrote of one organization's day; totals in the order of UNBILLED."""

    organization_id: str
    local_date: date
    totals: list[int]
    contents: str


class Move(_Record):
    """A user whom an import assigned to an organization."""

    external_user: str
    organization_id: str
    valid_from: datetime


class ImportRecord(_Record):
    """The import that followed a backup, with everything that its rollback needs."""

    import_id: str
    source: str
    store: str
    keeps_source: bool
    digest: str
    events: int
    days: list[DayRecord]
    organizations: list[str] = []
    moves: list[Move] = []


class Manifest(_Record):
    """A backup and the import that followed it; `database` is None without a copy."""

    backup_id: str
    created_at: datetime
    version: str
    state: State = "backed up"
    database: SavedDatabase | None = None
    files: list[SavedFile] = []
    imported: ImportRecord | None = None


class Backups:
    """The folder of all backups, one folder each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, backup_id: str) -> Path:
        """Return the folder of a backup. Raises MigrationError for an invalid id."""
        if not _BACKUP_ID.fullmatch(backup_id):
            raise MigrationError(f"{backup_id!r} is no backup id: backup_YYYYMMDD_HHMMSS")
        return self.folder / backup_id

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one migration or rollback run at a time; raises MigrationError while another does."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = (self.folder / ".lock").open("w")
        except OSError as error:
            message = f"{self.folder} cannot hold backups: {error.strerror}"
            raise MigrationError(message) from error
        with file:
            if not lock_file(file.fileno(), wait=False):
                raise MigrationError(f"another migration or rollback is running in {self.folder}")
            yield

    def save(self, manifest: Manifest) -> Manifest:
        """Write a manifest atomically; return it."""
        self._replace(self.path(manifest.backup_id) / _MANIFEST, manifest.model_dump_json(indent=1))
        return manifest

    def load(self, backup_id: str) -> Manifest:
        """Read a manifest. Raises MigrationError when it is missing or cannot be read."""
        try:
            return Manifest.model_validate_json((self.path(backup_id) / _MANIFEST).read_bytes())
        except FileNotFoundError:
            raise MigrationError(f"{backup_id}: no such backup in {self.folder}") from None
        except (OSError, ValidationError) as error:
            reason = type(error).__name__
            raise MigrationError(f"{backup_id}: the manifest cannot be read: {reason}") from error

    def all(self) -> list[Manifest]:
        """Return all manifests, the newest first."""
        found = self.folder.glob(f"backup_*/{_MANIFEST}")
        return [self.load(path.parent.name) for path in sorted(found, reverse=True)]

    def of_import(self, import_id: str) -> Manifest | None:
        """Return the backup whose import is in the ledger, completely or in part."""
        for manifest in self.all():
            imported = manifest.imported
            if imported and imported.import_id == import_id and manifest.state != "rolled back":
                return manifest
        return None

    def note_progress(self, backup_id: str, digest: str, events: int) -> None:
        """Record how many events the store has accepted."""
        self._replace(self.path(backup_id) / _PROGRESS, f"{digest} {events}")

    def progress(self, backup_id: str, digest: str) -> int:
        """Return how many events the store has accepted of an import with this digest."""
        try:
            known, _, events = (self.path(backup_id) / _PROGRESS).read_text().partition(" ")
            return int(events) if known == digest else 0
        except (OSError, ValueError):
            return 0

    def _replace(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = path.with_suffix(".new")
            with new.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise MigrationError(f"{path} cannot be written: {error.strerror}") from error


def day_records(plan: ImportPlan) -> list[DayRecord]:
    return [
        DayRecord(
            organization_id=org_day.organization_id,
            local_date=org_day.local_date,
            totals=[getattr(plan.by_day[org_day], name) for name in UNBILLED],
            contents=plan.contents[org_day],
        )
        for org_day in sorted(plan.by_day)
    ]


def changed_days(
    known: ImportRecord, plan: ImportPlan
) -> list[tuple[OrganizationDay, Amounts, Amounts]]:
    """Return the days whose content changed since they were imported, with totals then and now."""
    changed = []
    for record in known.days:
        org_day = OrganizationDay(record.organization_id, record.local_date)
        if plan.contents.get(org_day) != record.contents:
            then = Amounts(**dict(zip(UNBILLED, record.totals, strict=True)))
            changed.append((org_day, then, plan.by_day.get(org_day, Amounts())))
    return changed
