"""Facts: the rows of daily usage, unmetered counts and findings of one day."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, delete, insert, select

from shared.core.amounts import AMOUNTS, Amounts
from shared.core.days import ZoneDay
from shared.errors import ProjectionError
from shared.projection.summary import DayFacts, DayFinding, SummaryKey, SummaryRow, UnmeteredCount
from shared.summary_db.schema import (
    client_organizations,
    daily_usage,
    findings,
    unmetered_daily,
)

_INT64_MAX = 2**63 - 1
_FACTS = (daily_usage, unmetered_daily, findings)


def read_day(connection: Connection, day: ZoneDay) -> DayFacts:
    """Return what is stored of a day of the organizations of a zone, in the order of its keys."""
    rows = [SummaryRow(_key(row), _amounts(row)) for row in _of_day(connection, daily_usage, day)]
    counts = [UnmeteredCount(**row._mapping) for row in _of_day(connection, unmetered_daily, day)]
    found = [DayFinding(**row._mapping) for row in _of_day(connection, findings, day)]
    return DayFacts(
        rows=sorted(rows, key=lambda row: row.key),
        unmetered=sorted(counts),
        findings=sorted(found),
    )


def changed_organizations(stored: DayFacts, computed: DayFacts) -> set[str]:
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


def delete_facts(connection: Connection, day: date, organizations: Iterable[str]) -> None:
    """Delete a day of organizations."""
    keys = [{"organization": organization} for organization in sorted(organizations)]
    for table in _FACTS if keys else ():
        of_organization = table.c.organization_id == bindparam("organization")
        connection.execute(delete(table).where(of_organization, table.c.local_date == day), keys)


def insert_facts(
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
