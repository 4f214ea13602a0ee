"""The database of summaries: SQLite or PostgreSQL, each method one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime

from sqlalchemy import Engine

from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.days import ZoneDay
from shared.core.rows import UserRow
from shared.event_store.port import Fingerprint, Window
from shared.projection.organization import (
    Assignment,
    Directory,
    Organization,
    OrganizationDefaults,
)
from shared.projection.port import (
    BatchRun,
    DirtyDay,
    ProjectedDay,
    RecordedCorrection,
    Replacement,
    ReportRow,
)
from shared.projection.summary import DayFacts
from shared.summary_db import organizations, runs, users
from shared.summary_db.day_reports import (
    read_mixed_days,
    read_report,
    read_totals,
)
from shared.summary_db.days import replace_day
from shared.summary_db.dirty_days import changed_buckets, mark_around, read_dirty_days
from shared.summary_db.engine import (
    Transactions,
    open_engine,
    upgrade_engine,
)
from shared.summary_db.facts import read_day


def open_summaries(
    database_url: str, defaults: OrganizationDefaults, clock: Clock = SYSTEM_CLOCK
) -> "SqlSummaries":
    """Open the database of summaries, its schema created or brought up to date.

    Raises ConfigError for a URL that cannot be used and for a database of a later version,
    ProjectionError when the database does not answer.
    """
    engine = open_engine(database_url)
    upgrade_engine(engine)
    return SqlSummaries(engine, defaults, clock)


class SqlSummaries:
    """Summaries, organizations, and the books about them, in an SQL database."""

    def __init__(self, engine: Engine, defaults: OrganizationDefaults, clock: Clock) -> None:
        self._transactions = Transactions(engine)
        self._defaults = defaults
        self._clock = clock

    def directory(self) -> Directory:
        """Return organizations, rates and assignments as of now."""
        with self._transactions.reading() as connection:
            return organizations.read_directory(connection, self._defaults)

    def mark_changed(
        self, window: Window, found: Mapping[datetime, Fingerprint]
    ) -> frozenset[datetime]:
        """Mark every day within an hour of a bucket that is not as stored; return such buckets."""
        with self._transactions.reading() as connection:
            if not changed_buckets(connection, window, found):
                return frozenset()
        with self._transactions.writing() as connection:
            changed = changed_buckets(connection, window, found)
            zones = organizations.read_zones(connection, self._defaults)
            mark_around(connection, changed, zones)
            return frozenset(changed)

    def dirty_days(self) -> list[DirtyDay]:
        """Return the days that wait for a projection, the oldest first."""
        with self._transactions.reading() as connection:
            return read_dirty_days(connection)

    def replace_day(self, projected: ProjectedDay) -> Replacement:
        """Replace the day of all its organizations, or change nothing at all."""
        with self._transactions.writing() as connection:
            return replace_day(connection, projected, self._defaults, self._clock.now())

    def record_failure(self, day: ZoneDay | None, started_at: datetime, error: str) -> int:
        """Record that a day could not be projected; return how often that came in a row."""
        with self._transactions.writing() as connection:
            return runs.record_failure(connection, day, started_at, self._clock.now(), error)

    def stored_day(self, day: ZoneDay) -> DayFacts:
        """Return what is stored of a day of the organizations of a zone."""
        with self._transactions.reading() as connection:
            return read_day(connection, day)

    def batch_runs(self, limit: int = 100) -> list[BatchRun]:
        """Return the newest runs first."""
        with self._transactions.reading() as connection:
            return runs.read_runs(connection, limit)

    def corrections(self, limit: int = 100) -> list[RecordedCorrection]:
        """Return the newest corrections first."""
        with self._transactions.reading() as connection:
            return runs.read_corrections(connection, limit)

    def report(self, start: date, end: date) -> list[ReportRow]:
        """Add up the local days from `start` to `end`, both included, of all organizations."""
        with self._transactions.reading() as connection:
            return read_report(connection, start, end)

    def totals(self, start: date, end: date, organization_id: str | None = None) -> ReportRow:
        """Add up everything of the local days from `start` to `end`, however large it is."""
        with self._transactions.reading() as connection:
            return read_totals(connection, start, end, organization_id)

    def mixed_days(self, start: date, end: date) -> list[date]:
        """Return the days on which whole answers and generations may both have been billed."""
        with self._transactions.reading() as connection:
            return read_mixed_days(connection, start, end)

    def add_organization(self, organization: Organization, rate_ppm: int | None = None) -> None:
        """Add an organization with its rate for all days; None is the default rate."""
        rate = self._defaults.rate_ppm if rate_ppm is None else rate_ppm
        with self._transactions.writing() as connection:
            organizations.insert_organization(connection, organization, rate, self._clock.now())

    def change_organization(self, organization: Organization) -> None:
        """Replace name, zone, currency and base of the markup of a known organization."""
        with self._transactions.writing() as connection:
            organizations.change_organization(connection, organization)

    def set_rate(self, organization_id: str, valid_from: date, rate_ppm: int) -> None:
        """Set the rate from a local day on until the next rate."""
        with self._transactions.writing() as connection:
            now = self._clock.now()
            organizations.set_rate(connection, organization_id, valid_from, rate_ppm, now)

    def assign_user(
        self, external_user: str, organization_id: str | None, valid_from: datetime
    ) -> int:
        """Put a user into an organization from an instant on; return the assignment's id."""
        wanted = Assignment(
            assignment_id=0,
            external_user=external_user,
            organization_id=organization_id,
            valid_from=valid_from,
        )
        with self._transactions.writing() as connection:
            zones = organizations.read_zones(connection, self._defaults)
            return users.assign_user(connection, wanted, zones, self._clock.now())

    def correct_assignment(
        self, assignment_id: int, organization_id: str | None, valid_from: datetime
    ) -> None:
        """Change an assignment that was wrong, for the past as well."""
        with self._transactions.writing() as connection:
            zones = organizations.read_zones(connection, self._defaults)
            corrected = users.find_assignment(connection, assignment_id)
            users.correct_assignment(
                connection,
                corrected,
                replace(corrected, organization_id=organization_id, valid_from=valid_from),
                zones,
                self._clock.now(),
            )

    def remove_assignment(self, assignment_id: int) -> None:
        """Take an assignment back, as if it had never been."""
        with self._transactions.writing() as connection:
            zones = organizations.read_zones(connection, self._defaults)
            users.remove_assignment(connection, assignment_id, zones)

    def store_users(self, rows: Sequence[UserRow]) -> None:
        """Keep the newest name of every user; an erased user stays erased."""
        with self._transactions.reading() as connection:
            news = users.unknown_names(connection, rows)
        if news:
            with self._transactions.writing() as connection:
                users.store_names(connection, users.unknown_names(connection, rows))

    def erase_user(self, user_id: str) -> None:
        """Forget the name and e-mail of a user, now and for good; the bill keeps the bare id."""
        with self._transactions.writing() as connection:
            users.erase_user(connection, user_id, self._clock.now())

    def user_names(self) -> dict[str, str]:
        """Return the name, or else the e-mail, of every user that has one."""
        with self._transactions.reading() as connection:
            return users.read_user_names(connection)

    def close(self) -> None:
        """Close all connections."""
        self._transactions.close()
