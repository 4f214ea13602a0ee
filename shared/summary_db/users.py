"""Users in the database: where they belong and since when, and what they are called."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from shared.core.days import ONE_DAY, ZoneDay, day_bounds, whole_second
from shared.core.rows import UserRow
from shared.errors import ConfigError
from shared.projection.organization import Assignment
from shared.summary_db.dirty_days import mark
from shared.summary_db.organizations import days_of_user, require, usable_id
from shared.summary_db.schema import user_assignments, users

_END_OF_TIME = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)


def assign_user(
    connection: Connection, wanted: Assignment, zones: Sequence[str], now: datetime
) -> int:
    """Add an assignment, in the place of one of the same user and second; return its id."""
    table = user_assignments
    user = usable_id(wanted.external_user)
    at = whole_second(wanted.valid_from)
    if wanted.organization_id is not None:
        require(connection, wanted.organization_id)
    connection.execute(delete(table).where(table.c.external_user == user, table.c.valid_from == at))
    values = {"external_user": user, "organization_id": wanted.organization_id}
    added = connection.execute(
        insert(table).values(values | {"valid_from": at, "changed_at": now}).returning(table.c.id)
    )
    _mark_user(connection, user, [at], zones)
    return int(added.scalar_one())


def correct_assignment(
    connection: Connection, old: Assignment, new: Assignment, zones: Sequence[str], now: datetime
) -> None:
    """Change where and since when an assignment puts its user."""
    table = user_assignments
    at = whole_second(new.valid_from)
    if new.organization_id is not None:
        require(connection, new.organization_id)
    taken = select(table.c.id).where(
        table.c.external_user == old.external_user,
        table.c.valid_from == at,
        table.c.id != old.assignment_id,
    )
    if connection.execute(taken).first() is not None:
        raise ConfigError("valid_from", at, "the user has another assignment from that second on")
    connection.execute(
        update(table)
        .where(table.c.id == old.assignment_id)
        .values(organization_id=new.organization_id, valid_from=at, changed_at=now)
    )
    _mark_user(connection, old.external_user, [old.valid_from, at], zones)


def remove_assignment(connection: Connection, assignment_id: int, zones: Sequence[str]) -> None:
    """Take an assignment back."""
    old = find_assignment(connection, assignment_id)
    connection.execute(delete(user_assignments).where(user_assignments.c.id == assignment_id))
    _mark_user(connection, old.external_user, [old.valid_from], zones)


def unknown_names(connection: Connection, rows: Iterable[UserRow]) -> list[UserRow]:
    """Return the rows that say something new of a user who is not erased."""
    known = {row.id: row for row in connection.execute(select(users))}
    return [row for row in rows if _is_news(row, known.get(row.user_id))]


def store_names(connection: Connection, rows: Iterable[UserRow]) -> None:
    """Store names in the place of older ones."""
    for row in rows:
        connection.execute(delete(users).where(users.c.id == row.user_id))
        values = {"id": row.user_id, "name": row.name, "email": row.email}
        connection.execute(insert(users).values(values | {"seen_at": row.occurred_at}))


def erase_user(connection: Connection, user_id: str, now: datetime) -> None:
    """Forget a user's name for good: the empty row keeps a later one from being stored."""
    connection.execute(delete(users).where(users.c.id == user_id))
    connection.execute(insert(users).values(id=user_id, seen_at=now, erased_at=now))


def read_user_names(connection: Connection) -> dict[str, str]:
    """Return what to call every user that has a name or an e-mail."""
    names = {row.id: row.name or row.email for row in connection.execute(select(users))}
    return {user_id: name for user_id, name in names.items() if name}


def _is_news(row: UserRow, known: Row[Any] | None) -> bool:
    if known is None:
        return True
    return (
        known.erased_at is None
        and known.seen_at < row.occurred_at
        and (known.name, known.email) != (row.name, row.email)
    )


def find_assignment(connection: Connection, assignment_id: int) -> Assignment:
    """Return an assignment. Raises ConfigError when there is none of that id."""
    row = connection.execute(
        select(user_assignments).where(user_assignments.c.id == assignment_id)
    ).first()
    if row is None:
        raise ConfigError("assignment_id", assignment_id, "is not known")
    return Assignment(
        assignment_id=row.id,
        external_user=row.external_user,
        organization_id=row.organization_id,
        valid_from=row.valid_from,
    )


def _mark_user(
    connection: Connection, user: str, changed: Sequence[datetime], zones: Sequence[str]
) -> None:
    """Mark the days on which the user was seen while a change of assignments matters.

    It matters from the earliest changed instant to the user's next assignment after the latest. A
    day of one zone touches the neighbouring dates of another.
    """
    later = select(user_assignments.c.valid_from).where(
        user_assignments.c.external_user == user, user_assignments.c.valid_from > max(changed)
    )
    start, end = min(changed), min(connection.scalars(later), default=_END_OF_TIME)
    seen = days_of_user(connection, user)
    dates = {day + step * ONE_DAY for day in seen for step in (-1, 0, 1)}
    days = [ZoneDay(day, zone) for day in dates for zone in zones]
    mark(connection, (day for day in days if _overlaps(day, start, end)), f"assignment of {user}")


def _overlaps(day: ZoneDay, start: datetime, end: datetime) -> bool:
    first, last = day_bounds(day.local_date, day.time_zone)
    return first < end and start < last
