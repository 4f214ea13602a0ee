"""Days: replacing the summaries of one local day, with everything that goes into the books."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from shared.core.days import ZoneDay
from shared.errors import ProjectionError
from shared.projection.audit import find_corrections
from shared.projection.organization import Directory, OrganizationDefaults
from shared.projection.port import BatchRun, ProjectedDay, Replacement
from shared.summary_db.dirty_days import (
    refuse_shrinking,
    remove_marks,
    store_fingerprints,
)
from shared.summary_db.facts import (
    changed_organizations,
    delete_facts,
    insert_facts,
    read_day,
)
from shared.summary_db.organizations import insert_organization, read_directory
from shared.summary_db.runs import insert_corrections, insert_run
from shared.summary_db.schema import (
    client_organizations,
    projected_days,
)

# A day is final once it was projected this long after its end; later changes are corrections.
CLOSED_AFTER = timedelta(hours=48)


def replace_day(
    connection: Connection, projected: ProjectedDay, defaults: OrganizationDefaults, now: datetime
) -> Replacement:
    """Replace a day of all organizations of its zone, within the caller's transaction."""
    _refuse_stale(read_directory(connection, defaults), projected)
    if projected.allow_shrink is None:
        refuse_shrinking(connection, projected.window, projected.fingerprints)
    created = _create_unknown(connection, projected, now)
    stored = read_day(connection, projected.day)
    corrections = find_corrections(
        stored.rows,
        projected.facts.rows,
        projected.directory,
        closed=_is_closed(connection, projected),
        why=_reason(projected),
    )
    changed = changed_organizations(stored, projected.facts)
    delete_facts(connection, projected.day.local_date, changed)
    written = insert_facts(connection, projected.facts, changed, now)
    store_fingerprints(connection, projected.window, projected.fingerprints)
    remove_marks(connection, projected.mark_ids)
    _note_projected(connection, projected.day, now)
    organizations = _organizations_of(projected) | created
    run = _run(projected, now, len(organizations), written, len(corrections))
    insert_corrections(connection, insert_run(connection, run), corrections, now)
    return Replacement(written, len(corrections))


def _refuse_stale(current: Directory, projected: ProjectedDay) -> None:
    """Refuse what was attributed by a directory that somebody has changed in the meantime."""
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
