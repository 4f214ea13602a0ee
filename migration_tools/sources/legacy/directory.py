"""Organizations, rates and users of the original system."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from migration_tools.source import ImportedOrganization, Membership, Remark, SourceDirectory
from migration_tools.sources.legacy.rows import (
    TABLES,
    day_of,
    is_usable,
    label_of,
    organization_label,
    tables_of,
)
from shared.core.days import zone_named
from shared.core.ids import clean_label, digest, key_hash
from shared.core.money import PPM, parse_usd, rate_ppm, to_pico
from shared.errors import ConfigError, UnusableCost
from shared.projection.organization import ALWAYS, Organization

# The original's own defaults.
ORIGINAL_ZONE = "Europe/Warsaw"
ORIGINAL_RATE = 1_300_000


@dataclass(frozen=True, kw_only=True)
class LegacyOrganization:
    """An organization of the original system; of its key only the hash is kept."""

    organization_id: str
    name: str
    time_zone: str
    rate_ppm: int
    api_key_hash: str
    remarks: tuple[Remark, ...]


def read_organizations(connection: sqlite3.Connection) -> dict[str, LegacyOrganization]:
    if "client_organizations" not in tables_of(connection):
        return {}
    rows = connection.execute(
        "SELECT id, name, openrouter_api_key, markup_rate, timezone FROM client_organizations"
        " WHERE id IS NOT NULL ORDER BY id"
    )
    found = (_organization(*row) for row in rows)
    return {organization.organization_id: organization for organization in found}


def read_identity(connection: sqlite3.Connection) -> str:
    """Derive a name from the first organization: it stays while the database grows or is copied."""
    first = None
    if "client_organizations" in tables_of(connection):
        first = connection.execute(
            "SELECT id, created_at FROM client_organizations ORDER BY created_at, id LIMIT 1"
        ).fetchone()
    return digest(["legacy", *(str(part) for part in first or ())], size=4)


def read_directory(connection: sqlite3.Connection, currency: str) -> SourceDirectory:
    """Return organizations with the rates that their days imply, and their users."""
    organizations = read_organizations(connection)
    last_day = _last_day(connection)
    rates = _rates(connection, organizations)
    imported = tuple(
        ImportedOrganization(
            Organization(
                organization_id=each.organization_id,
                name=each.name,
                time_zone=each.time_zone,
                currency=_currency(connection) or currency,
            ),
            tuple(_with_current_rate(rates.get(each.organization_id, []), each.rate_ppm, last_day)),
        )
        for each in organizations.values()
    )
    remarks = tuple(remark for each in organizations.values() for remark in each.remarks)
    after = last_day + timedelta(days=1)
    return SourceDirectory(imported, tuple(_memberships(connection, organizations, after)), remarks)


def _organization(
    organization_id: Any, name: Any, api_key: Any, markup: Any, zone: Any
) -> LegacyOrganization:
    label = organization_label(organization_id)
    remarks = []
    try:
        ppm = rate_ppm(markup) if markup is not None else ORIGINAL_RATE
    except UnusableCost:
        ppm = ORIGINAL_RATE
        detail = f"markup_rate {markup!r} is no rate; 1.3 is taken"
        remarks.append(Remark(organization_id=label, what="rate", detail=detail))
    try:
        zone_named(zone or ORIGINAL_ZONE)
    except ConfigError:
        detail = f"{zone!r} is no time zone; UTC is taken"
        remarks.append(Remark(organization_id=label, what="zone", detail=detail))
        zone = "UTC"
    return LegacyOrganization(
        organization_id=label,
        name=clean_label(name, label),
        time_zone=zone or ORIGINAL_ZONE,
        rate_ppm=ppm,
        api_key_hash=key_hash(api_key) if isinstance(api_key, str) and api_key else "none",
        remarks=tuple(remarks),
    )


def _rates(
    connection: sqlite3.Connection, organizations: dict[str, LegacyOrganization]
) -> dict[str, list[tuple[date, int]]]:
    """Derive each organization's dated rates: markup_cost / raw_cost, where it changes."""
    rates: dict[str, list[tuple[date, int]]] = {}
    for organization_id, day, raw, marked_up in _costs(connection):
        known = rates.setdefault(organization_id, [])
        organization = organizations.get(organization_id)
        current = known[-1][1] if known else organization.rate_ppm if organization else 0
        if not _matches_rate(current, raw, marked_up):
            current = round(marked_up * PPM / raw)
            if not _matches_rate(current, raw, marked_up):
                continue
        if not known:
            known.append((ALWAYS, current))
        elif known[-1][1] != current:
            known.append((day, current))
    return rates


def _costs(connection: sqlite3.Connection) -> Iterator[tuple[str, date, int, int]]:
    if "client_daily_usage" not in tables_of(connection):
        return
    rows = connection.execute(
        f"SELECT label(client_org_id), {day_of('usage_date')}, raw_cost, markup_cost"  # noqa: S608 no data
        f" FROM client_daily_usage WHERE {is_usable('usage_date')} ORDER BY 2"
    )
    for organization_id, day, raw, marked_up in rows:
        try:
            amounts = to_pico(parse_usd(raw)), to_pico(parse_usd(marked_up))
        except UnusableCost:
            continue
        if all(amounts):
            yield organization_id, date.fromisoformat(day), *amounts


def _matches_rate(rate: int, raw: int, marked_up: int) -> bool:
    """Tell whether a float product of the raw cost and this rate is the marked-up cost.

    Sums of floats and amounts finer than a pico-USD leave a few units in the last place.
    """
    return abs(raw * rate // PPM - marked_up) <= marked_up // 10**9 + 10


def _with_current_rate(
    rates: list[tuple[date, int]], current: int, last_day: date
) -> list[tuple[date, int]]:
    if not rates:
        return [(ALWAYS, current)]
    if rates[-1][1] == current:
        return rates
    return [*rates, (last_day + timedelta(days=1), current)]


def _memberships(
    connection: sqlite3.Connection, organizations: dict[str, LegacyOrganization], after: date
) -> Iterator[Membership]:
    """Return the users' organizations from the day after the original's last one on.

    Earlier days were billed to the organization in their rows, whatever the mapping is now.
    """
    if "user_client_mapping" not in tables_of(connection):
        return
    rows = connection.execute(
        "SELECT user_id, client_org_id FROM user_client_mapping"
        " WHERE coalesce(is_active, 1) AND user_id IS NOT NULL ORDER BY updated_at, id"
    )
    newest = {label_of(user, ""): organization_label(organization) for user, organization in rows}
    for user, organization in sorted(newest.items()):
        if user and organization in organizations:
            yield Membership(user, organization, after)


def _last_day(connection: sqlite3.Connection) -> date:
    days = []
    present = tables_of(connection)
    for table in TABLES:
        if table in present:
            day, usable = day_of("usage_date"), is_usable("usage_date")
            query = f"SELECT max({day}) FROM {table} WHERE {usable}"  # noqa: S608 no data
            days += [day for (day,) in connection.execute(query) if day]
    return date.fromisoformat(max(days)) if days else ALWAYS


def _currency(connection: sqlite3.Connection) -> str | None:
    if "global_settings" not in tables_of(connection):
        return None
    row = connection.execute("SELECT billing_currency FROM global_settings LIMIT 1").fetchone()
    found = row[0] if row else None
    return found if isinstance(found, str) and len(found) == 3 and found.isupper() else None
