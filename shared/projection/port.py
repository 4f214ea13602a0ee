"""The seam to the database of summaries: what a projection reads from it and replaces in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.core.days import ZoneDay
from shared.core.rows import UserRow
from shared.event_store.port import Fingerprint, Window
from shared.projection.organization import Directory
from shared.projection.summary import DayFacts


@dataclass(frozen=True, kw_only=True)
class DirtyDay:
    """A day that must be projected again, by the ids and reasons of its invalidations."""

    day: ZoneDay
    invalidations: tuple[int, ...]
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
    invalidations: Sequence[int]
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


class Summaries(Protocol):
    """The days of summaries.

    Every method is one transaction. Raises ProjectionError when the database cannot be used.
    """

    def directory(self) -> Directory:
        """Return organizations, rates and assignments as of now."""

    def invalidate_changed(
        self, window: Window, found: Mapping[datetime, Fingerprint]
    ) -> frozenset[datetime]:
        """Invalidate every day within an hour of a bucket that is not as stored; return them."""

    def dirty_days(self) -> list[DirtyDay]:
        """Return the days that wait for a projection, the oldest first."""

    def replace_day(self, projected: ProjectedDay) -> Replacement:
        """Replace the day of all its organizations, or change nothing at all.

        Stores the fingerprints, creates unknown organizations, records corrections and the run,
        and removes the invalidations. Raises WouldShrink when a bucket of the day holds fewer
        events than its stored fingerprint and no reason is given.
        """

    def record_failure(self, day: ZoneDay | None, started_at: datetime, error: str) -> int:
        """Record that a day could not be projected; return how often that came in a row."""

    def stored_day(self, day: ZoneDay) -> DayFacts:
        """Return what is stored of a day of the organizations of a zone."""

    def store_users(self, rows: Sequence[UserRow]) -> None:
        """Keep the newest name of every user; an erased user stays erased."""
