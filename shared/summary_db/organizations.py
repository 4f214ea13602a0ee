"""Organizations and rates in the database; every change invalidates the days it touches."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import date, datetime

from sqlalchemy import ColumnElement, Connection, delete, insert, literal, select, union, update

from shared.core.clock import Clock
from shared.core.days import ONE_DAY, ZoneDay, zone_named
from shared.core.ids import clean_label
from shared.errors import ConfigError
from shared.projection.organization import (
    ALWAYS,
    Assignment,
    Directory,
    MarkupRate,
    Organization,
    OrganizationDefaults,
)
from shared.summary_db.dirty_days import invalidate
from shared.summary_db.engine import Transactions
from shared.summary_db.schema import (
    client_organizations,
    daily_usage,
    dirty_days,
    findings,
    markup_rates,
    projected_days,
    unmetered_daily,
    user_assignments,
)

_RATE_PPM_MAX = 1_000_000_000


class Organizations:
    """Organizations and their rates.

    Raises ConfigError for a value that cannot be used (an unknown organization or zone),
    ProjectionError when the database cannot be used.
    """

    def __init__(self, db: Transactions, defaults: OrganizationDefaults, clock: Clock) -> None:
        self._db = db
        self._defaults = defaults
        self._clock = clock

    def directory(self) -> Directory:
        """Return organizations, rates and assignments as of now."""
        with self._db.reading() as connection:
            return read_directory(connection, self._defaults)

    def add(self, organization: Organization, rate_ppm: int | None = None) -> None:
        """Add an organization with its rate for all days; None is the default rate."""
        rate = self._defaults.rate_ppm if rate_ppm is None else rate_ppm
        with self._db.writing() as connection:
            insert_organization(connection, organization, rate, self._clock.now())

    def change(self, organization: Organization) -> None:
        """Replace what is known of an organization; another zone or base is another bill."""
        organization_id = organization.organization_id
        zone = organization.time_zone
        zone_named(zone)
        same = client_organizations.c.id == organization_id
        with self._db.writing() as connection:
            require(connection, organization_id)
            old = connection.execute(select(client_organizations).where(same)).one()
            values = _described(organization)
            connection.execute(update(client_organizations).where(same).values(values))
            days = days_of_organization(connection, organization_id)
            if old.time_zone != zone:
                _move_days(connection, days, old.time_zone, zone, organization_id)
            if old.fee_only != organization.fee_only:
                reason = f"base of the markup of {organization_id}"
                invalidate(connection, _in_zone(days, zone), reason)

    def set_rate(self, organization_id: str, valid_from: date, rate_ppm: int) -> None:
        """Set the rate from a local day on until the next rate."""
        later = select(markup_rates.c.valid_from).where(
            markup_rates.c.organization_id == organization_id,
            markup_rates.c.valid_from > valid_from,
        )
        zone_of = select(client_organizations.c.time_zone).where(
            client_organizations.c.id == organization_id
        )
        with self._db.writing() as connection:
            require(connection, organization_id)
            rate = MarkupRate(organization_id, valid_from, rate_ppm)
            _store_rate(connection, rate, self._clock.now())
            until = min(connection.scalars(later), default=date.max)
            days = days_of_organization(connection, organization_id)
            touched = (day for day in days if valid_from <= day < until)
            zone = str(connection.scalar(zone_of))
            invalidate(connection, _in_zone(touched, zone), f"rate of {organization_id}")


def read_directory(connection: Connection, defaults: OrganizationDefaults) -> Directory:
    """Return all organizations, rates and assignments."""
    organizations = {
        row.id: Organization(
            organization_id=row.id,
            name=row.name,
            time_zone=row.time_zone,
            currency=row.currency,
            fee_only=row.fee_only,
            is_active=row.is_active,
        )
        for row in connection.execute(select(client_organizations))
    }
    rates = [
        MarkupRate(row.organization_id, row.valid_from, row.rate_ppm)
        for row in connection.execute(select(markup_rates))
    ]
    assignments = [
        Assignment(
            assignment_id=row.id,
            external_user=row.external_user,
            organization_id=row.organization_id,
            valid_from=row.valid_from,
        )
        for row in connection.execute(select(user_assignments))
    ]
    return Directory(organizations, rates, assignments, defaults)


def read_zones(connection: Connection, defaults: OrganizationDefaults) -> list[str]:
    """Return every zone that has days."""
    named = set(connection.scalars(select(client_organizations.c.time_zone)))
    return sorted(named | {defaults.time_zone})


def insert_organization(
    connection: Connection, organization: Organization, rate_ppm: int, now: datetime
) -> None:
    """Add an organization that is not there yet, with its rate for all days."""
    organization_id = usable_id(organization.organization_id)
    zone_named(organization.time_zone)
    if _exists(connection, organization_id):
        raise ConfigError("organization_id", organization_id, "exists already")
    values = {"id": organization_id, "created_at": now} | _described(organization)
    connection.execute(insert(client_organizations), [values])
    # Of an organization that is new no day is stored, so none is invalidated.
    _store_rate(connection, MarkupRate(organization_id, ALWAYS, rate_ppm), now)


def require(connection: Connection, organization_id: str) -> None:
    """Raise ConfigError when there is no such organization."""
    if not _exists(connection, organization_id):
        raise ConfigError("organization_id", organization_id, "is not known; add it first")


def usable_id(organization_id: str) -> str:
    """Return an id that events can carry. Raises ConfigError for one that they cannot."""
    if clean_label(organization_id, "") != organization_id or not organization_id:
        raise ConfigError("organization_id", organization_id, "must be a short printable text")
    return organization_id


def days_of_organization(connection: Connection, organization_id: str) -> list[date]:
    """Return the local days of which summaries are stored."""
    tables = (daily_usage, unmetered_daily, findings)
    return _days(
        connection,
        [(table.c.local_date, table.c.organization_id == organization_id) for table in tables],
    )


def days_of_user(connection: Connection, external_user: str) -> list[date]:
    """Return the local days on which a user was seen."""
    tables = (daily_usage, unmetered_daily)
    return _days(
        connection,
        [(table.c.local_date, table.c.external_user == external_user) for table in tables],
    )


def _days(
    connection: Connection, parts: Iterable[tuple[ColumnElement[date], ColumnElement[bool]]]
) -> list[date]:
    return sorted(connection.scalars(union(*(select(day).where(rows) for day, rows in parts))))


def _in_zone(days: Iterable[date], zone: str) -> list[ZoneDay]:
    return [ZoneDay(day, zone) for day in days]


def _move_days(
    connection: Connection, days: Iterable[date], old_zone: str, zone: str, organization_id: str
) -> None:
    # Events that wait for a projection of the old zone's day are now on a day of the new one.
    waiting = connection.scalars(select(dirty_days.c.local_date))
    around = {day + step * ONE_DAY for day in (*days, *waiting) for step in (-1, 0, 1)}
    invalidate(connection, _in_zone(around, zone), f"time zone of {organization_id}")
    _keep_days_final(connection, old_zone, zone)


def _keep_days_final(connection: Connection, old_zone: str, new_zone: str) -> None:
    """Let days that were final stay so in a zone that had no organization until now."""
    table = projected_days
    had_days = select(table.c.local_date).where(table.c.time_zone == new_zone)
    copied = select(table.c.local_date, literal(new_zone), table.c.projected_at).where(
        table.c.time_zone == old_zone, table.c.local_date.not_in(had_days)
    )
    columns = ["local_date", "time_zone", "projected_at"]
    connection.execute(insert(table).from_select(columns, copied))


def _store_rate(connection: Connection, rate: MarkupRate, now: datetime) -> None:
    if not 0 <= rate.rate_ppm <= _RATE_PPM_MAX:
        raise ConfigError("rate_ppm", rate.rate_ppm, "must lie between 0 and 1000 times the cost")
    table = markup_rates
    connection.execute(
        delete(table).where(
            table.c.organization_id == rate.organization_id, table.c.valid_from == rate.valid_from
        )
    )
    connection.execute(insert(table), [asdict(rate) | {"changed_at": now}])


def _exists(connection: Connection, organization_id: str) -> bool:
    same = client_organizations.c.id == organization_id
    return connection.execute(select(client_organizations.c.id).where(same)).first() is not None


def _described(organization: Organization) -> dict[str, object]:
    return {
        "name": organization.name,
        "time_zone": organization.time_zone,
        "currency": organization.currency,
        "fee_only": organization.fee_only,
        "is_active": organization.is_active,
    }
