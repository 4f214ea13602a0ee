"""The seam to the summaries: what a projection and the admin ask of the database of totals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from shared.core.days import ZoneDay
from shared.core.rows import UserRow
from shared.event_store.port import Fingerprint, Window
from shared.projection.audit import Correction
from shared.projection.organization import Directory, Organization
from shared.projection.summary import DayFacts


@dataclass(frozen=True, kw_only=True)
class DirtyDay:
    """A day that must be projected again: the ids of the marks that say so, and their reasons."""

    day: ZoneDay
    mark_ids: tuple[int, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProjectedDay:
    """One day of all organizations of a zone, ready to take the place of what is stored.

    `fingerprints` were read before the events and cover the day; `directory` is what they were
    attributed by. `why` goes into corrections, `allow_shrink` is
    the reason a person gave for fewer events than are known.
    """

    day: ZoneDay
    window: Window
    directory: Directory
    facts: DayFacts
    fingerprints: Mapping[datetime, Fingerprint]
    mark_ids: Sequence[int]
    why: str
    allow_shrink: str | None
    events_read: int
    was_resolved: bool
    started_at: datetime


@dataclass(frozen=True)
class Replacement:
    """What a replacement changed: rows written, and corrections recorded."""

    rows_written: int
    corrections: int


@dataclass(frozen=True, kw_only=True)
class BatchRun:
    """The record of one attempt to project a day.

    A run without `day` failed before any day was known. `was_resolved` tells whether the events
    were read one by one; `attempts` counts how often the same failure came in a row.
    """

    run_id: int
    day: ZoneDay | None
    started_at: datetime
    ended_at: datetime
    success: bool
    was_resolved: bool = False
    organizations: int = 0
    events_read: int = 0
    rows_written: int = 0
    corrections: int = 0
    allow_shrink: str | None = None
    error: str | None = None
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """A line of the bill: who used which model for what, in counts and pico-USD."""

    organization_id: str
    external_user: str
    model: str
    task: str
    events: int = 0
    pending: int = 0
    estimated: int = 0
    unmetered: int = 0
    total_tokens: int = 0
    raw_pico_usd: int = 0
    upstream_pico_usd: int = 0
    estimated_pico_usd: int = 0
    billed_pico_usd: int = 0


@dataclass(frozen=True)
class RecordedCorrection:
    """A correction as it was recorded."""

    recorded_at: datetime
    run_id: int
    correction: Correction


class SummaryStore(Protocol):
    """The database of daily totals.

    Every method is one transaction. Raises ProjectionError when the database cannot be used.
    """

    def directory(self) -> Directory:
        """Return organizations, rates and assignments as of now."""

    def mark_changed(
        self, window: Window, found: Mapping[datetime, Fingerprint]
    ) -> frozenset[datetime]:
        """Mark every day within an hour of a bucket that is not as stored; return such buckets."""

    def dirty_days(self) -> list[DirtyDay]:
        """Return the days that wait for a projection, the oldest first."""

    def replace_day(self, projected: ProjectedDay) -> Replacement:
        """Replace the day of all its organizations, or change nothing at all.

        Stores the fingerprints, creates organizations nobody added, records corrections and the
        run, and takes away the marks. Raises WouldShrink when a bucket of the day holds fewer
        events than its stored fingerprint and nobody said why.
        """

    def record_failure(self, day: ZoneDay | None, started_at: datetime, error: str) -> int:
        """Record that a day could not be projected; return how often that came in a row."""

    def stored_day(self, day: ZoneDay) -> DayFacts:
        """Return what is stored of a day of the organizations of a zone."""

    def batch_runs(self, limit: int = 100) -> list[BatchRun]:
        """Return the newest runs first."""

    def corrections(self, limit: int = 100) -> list[RecordedCorrection]:
        """Return the newest corrections first."""

    def report(self, start: date, end: date) -> list[ReportRow]:
        """Add up the local days from `start` to `end`, both included, of all organizations."""

    def totals(self, start: date, end: date, organization_id: str | None = None) -> ReportRow:
        """Add up everything of the local days from `start` to `end`, however large it is."""

    def mixed_days(self, start: date, end: date) -> list[date]:
        """Return the days on which whole answers and generations may both have been billed.

        A webhook, a gateway or an import sees the generations of the same traffic without their
        chat, so nothing supersedes the Pipelines turns: such a day calls for USAGE_TURNS=observe.
        """


class OrganizationBook(Protocol):
    """What a person decides: organizations, rates, assignments, names.

    Every change marks the days whose summaries it touches. Raises ConfigError for a value that
    cannot be used (an unknown organization, zone or assignment), ProjectionError as above.
    """

    def add_organization(self, organization: Organization, rate_ppm: int | None = None) -> None:
        """Add an organization with its rate for all days; None is the default rate."""

    def change_organization(self, organization: Organization) -> None:
        """Replace name, zone, currency and base of the markup of a known organization."""

    def set_rate(self, organization_id: str, valid_from: date, rate_ppm: int) -> None:
        """Set the rate from a local day on until the next rate."""

    def assign_user(
        self, external_user: str, organization_id: str | None, valid_from: datetime
    ) -> int:
        """Put a user into an organization from an instant on; return the assignment's id.

        None gives the decision back to the host's own configuration. An assignment of the same
        user at the same second is replaced.
        """

    def correct_assignment(
        self, assignment_id: int, organization_id: str | None, valid_from: datetime
    ) -> None:
        """Change an assignment that was wrong, for the past as well."""

    def remove_assignment(self, assignment_id: int) -> None:
        """Take an assignment back, as if it had never been."""

    def store_users(self, rows: Sequence[UserRow]) -> None:
        """Keep the newest name of every user; an erased user stays erased."""

    def erase_user(self, user_id: str) -> None:
        """Forget the name and e-mail of a user, now and for good; the bill keeps the bare id."""

    def user_names(self) -> dict[str, str]:
        """Return the name, or else the e-mail, of every user that has one."""


class Summaries(SummaryStore, OrganizationBook, Protocol):
    """The whole database of summaries, as the sidecar opens it."""
