"""Users in the database: their assignments to organizations, and their names."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from shared.core.clock import Clock
from shared.core.days import ONE_DAY, ZoneDay, day_bounds
from shared.core.rows import UserRow
from shared.core.time import whole_second
from shared.errors import ConfigError
from shared.projection.organization import Assignment, OrganizationDefaults
from shared.summary_db.dirty_days import invalidate
from shared.summary_db.engine import Transactions
from shared.summary_db.organizations import days_of_user, read_zones, require, usable_id
from shared.summary_db.schema import user_assignments, users

_END_OF_TIME = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)


class Users:
    """Assignments of users to organizations, and names of users.

    Every change of an assignment invalidates the days it touches. Raises ConfigError for a value
    that cannot be used (an unknown organization or assignment), ProjectionError when the database
    cannot be used.
    """

    def __init__(self, db: Transactions, defaults: OrganizationDefaults, clock: Clock) -> None:
        self._db = db
        self._defaults = defaults
        self._clock = clock

    def assign(self, external_user: str, organization_id: str | None, valid_from: datetime) -> int:
        """Put a user into an organization from an instant on; return the assignment's id.

        None gives the decision back to the host's own configuration. An assignment of the same
        user at the same second is replaced.
        """
        table = user_assignments
        user = usable_id(external_user)
        at = whole_second(valid_from)
        same = (table.c.external_user == user) & (table.c.valid_from == at)
        values = {
            "external_user": user,
            "organization_id": organization_id,
            "valid_from": at,
            "changed_at": self._clock.now(),
        }
        with self._db.writing() as connection:
            if organization_id is not None:
                require(connection, organization_id)
            connection.execute(delete(table).where(same))
            added = connection.execute(insert(table).values(values).returning(table.c.id))
            assignment_id = int(added.scalar_one())
            self._invalidate(connection, user, [at])
        return assignment_id

    def correct_assignment(
        self, assignment_id: int, organization_id: str | None, valid_from: datetime
    ) -> None:
        """Change an assignment that was wrong, for the past as well."""
        table = user_assignments
        with self._db.writing() as connection:
            old = _find_assignment(connection, assignment_id)
            at = whole_second(valid_from)
            if organization_id is not None:
                require(connection, organization_id)
            taken = select(table.c.id).where(
                table.c.external_user == old.external_user,
                table.c.valid_from == at,
                table.c.id != assignment_id,
            )
            if connection.execute(taken).first() is not None:
                reason = "the user has another assignment from that second on"
                raise ConfigError("valid_from", at, reason)
            now = self._clock.now()
            connection.execute(
                update(table)
                .where(table.c.id == assignment_id)
                .values(organization_id=organization_id, valid_from=at, changed_at=now)
            )
            self._invalidate(connection, old.external_user, [old.valid_from, at])

    def remove_assignment(self, assignment_id: int) -> None:
        """Take an assignment back, as if it had never been."""
        with self._db.writing() as connection:
            old = _find_assignment(connection, assignment_id)
            same = user_assignments.c.id == assignment_id
            connection.execute(delete(user_assignments).where(same))
            self._invalidate(connection, old.external_user, [old.valid_from])

    def erase(self, user_id: str) -> None:
        """Forget a user's name for good: the empty row keeps a later one from being stored."""
        now = self._clock.now()
        with self._db.writing() as connection:
            connection.execute(delete(users).where(users.c.id == user_id))
            connection.execute(insert(users).values(id=user_id, seen_at=now, erased_at=now))

    def names(self) -> dict[str, str]:
        """Return the name, or else the e-mail, of every user that has one."""
        with self._db.reading() as connection:
            names = {row.id: row.name or row.email for row in connection.execute(select(users))}
        return {user_id: name for user_id, name in names.items() if name}

    def _invalidate(self, connection: Connection, user: str, changed: Sequence[datetime]) -> None:
        """Invalidate the days on which the user was seen while a change of assignments matters.

        It matters from the earliest changed instant to the user's next assignment after the latest.
        A day of one zone touches the neighbouring dates of another.
        """
        later = select(user_assignments.c.valid_from).where(
            user_assignments.c.external_user == user, user_assignments.c.valid_from > max(changed)
        )
        start, end = min(changed), min(connection.scalars(later), default=_END_OF_TIME)
        seen = days_of_user(connection, user)
        dates = {day + step * ONE_DAY for day in seen for step in (-1, 0, 1)}
        zones = read_zones(connection, self._defaults)
        days = [ZoneDay(day, zone) for day in dates for zone in zones]
        touched = (day for day in days if _overlaps(day, start, end))
        invalidate(connection, touched, f"assignment of {user}")


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


def _is_news(row: UserRow, known: Row[Any] | None) -> bool:
    if known is None:
        return True
    return (
        known.erased_at is None
        and known.seen_at < row.occurred_at
        and (known.name, known.email) != (row.name, row.email)
    )


def _find_assignment(connection: Connection, assignment_id: int) -> Assignment:
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


def _overlaps(day: ZoneDay, start: datetime, end: datetime) -> bool:
    first, last = day_bounds(day.local_date, day.time_zone)
    return first < end and start < last
