"""Days of summaries: reading, invalidating and replacing them, one transaction each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, delete, insert, select

from shared.core.amounts import AMOUNTS, Amounts
from shared.core.clock import Clock
from shared.core.days import ZoneDay
from shared.core.rows import UserRow
from shared.errors import ProjectionError
from shared.event_store.port import Fingerprint, Window
from shared.projection.audit import find_corrections
from shared.projection.organization import Directory, OrganizationDefaults
from shared.projection.port import DirtyDay, ProjectedDay, Replacement
from shared.projection.summary import DayFacts, DayFinding, SummaryKey, SummaryRow, UnmeteredCount
from shared.summary_db.dirty_days import (
    changed_buckets,
    invalidate_around,
    read_dirty_days,
    refuse_shrinking,
    remove_invalidations,
    store_fingerprints,
)
from shared.summary_db.engine import Transactions
from shared.summary_db.organizations import insert_organization, read_directory, read_zones
from shared.summary_db.runs import BatchRun, insert_corrections, insert_failure, insert_run
from shared.summary_db.schema import (
    client_organizations,
    daily_usage,
    findings,
    projected_days,
    unmetered_daily,
)
from shared.summary_db.users import store_names, unknown_names

_INT64_MAX = 2**63 - 1
_FACTS = (daily_usage, unmetered_daily, findings)
# A day is final once it was projected this long after its end; later changes are corrections.
CLOSED_AFTER = timedelta(hours=48)


class SummaryDays:
    """The days of summaries, as `Projection` reads, invalidates and replaces them."""

    def __init__(self, db: Transactions, defaults: OrganizationDefaults, clock: Clock) -> None:
        self._db = db
        self._defaults = defaults
        self._clock = clock

    def directory(self) -> Directory:
        """Return what days are attributed by, as of now."""
        with self._db.reading() as connection:
            return read_directory(connection, self._defaults)

    def stored_day(self, day: ZoneDay) -> DayFacts:
        """Return what is stored of a day of the organizations of a zone, in the order of keys."""
        with self._db.reading() as connection:
            return _read_day(connection, day)

    def dirty_days(self) -> list[DirtyDay]:
        """Return the days that wait for a projection, the oldest first."""
        with self._db.reading() as connection:
            return read_dirty_days(connection)

    def invalidate_changed(
        self, window: Window, found: Mapping[datetime, Fingerprint]
    ) -> frozenset[datetime]:
        """Invalidate every day within an hour of a changed bucket; return such buckets."""
        with self._db.reading() as connection:
            if not changed_buckets(connection, window, found):
                return frozenset()
        with self._db.writing() as connection:
            changed = changed_buckets(connection, window, found)
            invalidate_around(connection, changed, read_zones(connection, self._defaults))
        return frozenset(changed)

    def replace_day(self, projected: ProjectedDay) -> Replacement:
        """Replace the day of all its organizations, or change nothing at all."""
        now = self._clock.now()
        with self._db.writing() as connection:
            _refuse_stale(read_directory(connection, self._defaults), projected)
            if projected.allow_shrink is None:
                refuse_shrinking(connection, projected.window, projected.fingerprints)
            created = _create_unknown(connection, projected, now)
            stored = _read_day(connection, projected.day)
            corrections = find_corrections(
                stored.rows,
                projected.facts.rows,
                projected.directory,
                closed=_is_closed(connection, projected),
                why=_reason(projected),
            )
            changed = _changed_organizations(stored, projected.facts)
            _delete_facts(connection, projected.day.local_date, changed)
            written = _insert_facts(connection, projected.facts, changed, now)
            store_fingerprints(connection, projected.window, projected.fingerprints)
            remove_invalidations(connection, projected.invalidations)
            _note_projected(connection, projected.day, now)
            organizations = _organizations_of(projected) | created
            run = _run(projected, now, len(organizations), written, len(corrections))
            insert_corrections(connection, insert_run(connection, run), corrections, now)
        return Replacement(written, len(corrections))

    def record_failure(self, day: ZoneDay | None, started_at: datetime, error: str) -> int:
        """Record that a day could not be projected; return how often that came in a row."""
        with self._db.writing() as connection:
            return insert_failure(connection, day, started_at, self._clock.now(), error)

    def store_users(self, rows: Sequence[UserRow]) -> None:
        """Keep the newest name of every user; an erased user stays erased."""
        with self._db.reading() as connection:
            news = unknown_names(connection, rows)
        if news:
            with self._db.writing() as connection:
                store_names(connection, unknown_names(connection, rows))


def _refuse_stale(current: Directory, projected: ProjectedDay) -> None:
    """Refuse what was attributed by a directory that was changed in the meantime."""
    named = {row.key.organization_id for row in projected.facts.rows}
    if not current.agrees_with(projected.directory, named):
        raise ProjectionError(
            "organizations, rates or assignments changed while the day was read; "
            "the next run projects it"
        )


def _create_unknown(connection: Connection, projected: ProjectedDay, now: datetime) -> set[str]:
    facts = projected.facts
    named = {
        *(row.key.organization_id for row in facts.rows),
        *(count.organization_id for count in facts.unmetered),
        *(finding.organization_id for finding in facts.findings),
    }
    known = set(connection.scalars(select(client_organizations.c.id)))
    for organization_id in sorted(named - known):
        organization = projected.directory.organization(organization_id)
        rate_ppm = projected.directory.defaults.rate_ppm
        insert_organization(connection, organization, rate_ppm, now)
    return named - known


def _is_closed(connection: Connection, projected: ProjectedDay) -> bool:
    """Tell whether the day is final: projected, at least once, long enough after its end."""
    day = projected.day
    last = connection.scalar(
        select(projected_days.c.projected_at).where(
            projected_days.c.local_date == day.local_date,
            projected_days.c.time_zone == day.time_zone,
        )
    )
    return last is not None and last >= projected.window.end + CLOSED_AFTER


def _reason(projected: ProjectedDay) -> str:
    return "; ".join(part for part in (projected.why, projected.allow_shrink) if part)


def _note_projected(connection: Connection, day: ZoneDay, now: datetime) -> None:
    key = {"local_date": day.local_date, "time_zone": day.time_zone}
    table = projected_days
    connection.execute(
        delete(table).where(
            table.c.local_date == day.local_date, table.c.time_zone == day.time_zone
        )
    )
    connection.execute(insert(table), [key | {"projected_at": now}])


def _organizations_of(projected: ProjectedDay) -> set[str]:
    zone = projected.day.time_zone
    known = projected.directory.organizations.values()
    return {each.organization_id for each in known if each.time_zone == zone}


def _run(
    projected: ProjectedDay, now: datetime, organizations: int, written: int, corrections: int
) -> BatchRun:
    return BatchRun(
        run_id=0,
        day=projected.day,
        started_at=projected.started_at,
        ended_at=now,
        success=True,
        was_resolved=projected.was_resolved,
        organizations=organizations,
        events_read=projected.events_read,
        rows_written=written,
        corrections=corrections,
        allow_shrink=projected.allow_shrink,
    )


def _read_day(connection: Connection, day: ZoneDay) -> DayFacts:
    rows = [SummaryRow(_key(row), _amounts(row)) for row in _of_day(connection, daily_usage, day)]
    counts = [UnmeteredCount(**row._mapping) for row in _of_day(connection, unmetered_daily, day)]
    found = [DayFinding(**row._mapping) for row in _of_day(connection, findings, day)]
    return DayFacts(
        rows=sorted(rows, key=lambda row: row.key),
        unmetered=sorted(counts),
        findings=sorted(found),
    )


def _changed_organizations(stored: DayFacts, computed: DayFacts) -> set[str]:
    """Return the organizations whose day is not the same on both sides."""
    before, after = _by_organization(stored), _by_organization(computed)
    return {
        organization
        for organization in before.keys() | after.keys()
        if before.get(organization) != after.get(organization)
    }


def _by_organization(facts: DayFacts) -> dict[str, list[object]]:
    parts: dict[str, list[object]] = {}
    for row in facts.rows:
        parts.setdefault(row.key.organization_id, []).append(row)
    for count in facts.unmetered:
        parts.setdefault(count.organization_id, []).append(count)
    for finding in facts.findings:
        parts.setdefault(finding.organization_id, []).append(finding)
    return parts


def _delete_facts(connection: Connection, day: date, organizations: Iterable[str]) -> None:
    keys = [{"organization": organization} for organization in sorted(organizations)]
    for table in _FACTS if keys else ():
        of_organization = table.c.organization_id == bindparam("organization")
        connection.execute(delete(table).where(of_organization, table.c.local_date == day), keys)


def _insert_facts(
    connection: Connection, facts: DayFacts, organizations: set[str], now: datetime
) -> int:
    """Insert a day of organizations and return how many rows of usage that were.

    Raises ProjectionError for an amount that does not fit 64 bits.
    """
    rows = [
        asdict(row.key) | _checked(row) | {"written_at_seconds": int(now.timestamp())}
        for row in facts.rows
        if row.key.organization_id in organizations
    ]
    lists: tuple[list[dict[str, Any]], ...] = (
        rows,
        [asdict(each) for each in facts.unmetered if each.organization_id in organizations],
        [asdict(each) for each in facts.findings if each.organization_id in organizations],
    )
    for table, values in zip(_FACTS, lists, strict=True):
        if values:
            connection.execute(insert(table), values)
    return len(rows)


def _checked(row: SummaryRow) -> dict[str, int]:
    amounts = asdict(row.amounts)
    if max(amounts.values()) > _INT64_MAX:
        raise ProjectionError(
            f"a row of {row.key.organization_id} on {row.key.local_date} is beyond "
            "9.2 million USD, the end of 64 bits"
        )
    return amounts


def _of_day(connection: Connection, table: Table, day: ZoneDay) -> Sequence[Row[Any]]:
    columns = [column for column in table.c if column.name != "written_at_seconds"]
    return connection.execute(
        select(*columns)
        .join(client_organizations, client_organizations.c.id == table.c.organization_id)
        .where(
            table.c.local_date == day.local_date,
            client_organizations.c.time_zone == day.time_zone,
        )
    ).all()


def _key(row: Row[Any]) -> SummaryKey:
    return SummaryKey(
        organization_id=row.organization_id,
        local_date=row.local_date,
        external_user=row.external_user,
        model=row.model,
        task=row.task,
        source=row.source,
    )


def _amounts(row: Row[Any]) -> Amounts:
    return Amounts(**{name: row._mapping[name] for name in AMOUNTS})
