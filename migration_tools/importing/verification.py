"""Verification: source against store against summaries, by organization and day, exactly."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from migration_tools.importing.importer import Migration
from migration_tools.importing.overlap import source_prefix
from migration_tools.importing.plan import (
    ImportPlan,
    OrganizationDay,
    Remarks,
    organization_day_of,
    wanted_events,
)
from migration_tools.importing.seen_ids import SeenIds
from migration_tools.ledger import Ledger
from migration_tools.source import Source
from shared.core.amounts import UNBILLED, Amounts, RunningAmounts
from shared.core.days import ONE_DAY, ZoneDay, day_bounds
from shared.event_store.port import Window
from shared.event_store.sums import STORED
from shared.projection.audit import Difference

_DIFFERENCES_MAX = 10_000


@dataclass(frozen=True, kw_only=True)
class ImportDifference:
    """A total of an organization's day that is not the same on both sides."""

    organization_id: str
    local_date: date
    where: str
    what: str
    expected: str
    found: str


@dataclass
class ImportDifferences:
    """Differences as they are found; beyond ten thousand they are only counted."""

    listed: list[ImportDifference] = field(default_factory=list)
    unlisted: int = 0

    def add(self, found: Iterable[ImportDifference]) -> None:
        for difference in found:
            if len(self.listed) < _DIFFERENCES_MAX:
                self.listed.append(difference)
            else:
                self.unlisted += 1

    def __len__(self) -> int:
        return len(self.listed) + self.unlisted


def verify(migration: Migration, plan: ImportPlan) -> Iterator[ImportDifference]:
    """Compare what a source holds with what the ledger holds of it, to the last digit."""
    ledger, source = migration.ledger, migration.source
    if source.keeps_source:
        yield from _compare(plan.by_day, _copied(migration, plan), "store")
    else:
        for where, by_day in _stored(ledger, source, plan).items():
            yield from _compare(plan.by_day, by_day, where)
    if source.whole_days:
        yield from _compare(plan.by_day, _summed(ledger, source, plan), "summaries")
    if plan.days:
        found = ledger.projection.differences(plan.days.first - ONE_DAY, plan.days.last + ONE_DAY)
        yield from map(_as_difference, found)


def _compare(
    expected: Mapping[OrganizationDay, Amounts],
    found: Mapping[OrganizationDay, Amounts],
    where: str,
) -> Iterator[ImportDifference]:
    for org_day in sorted(expected.keys() | found.keys()):
        wanted, got = expected.get(org_day, Amounts()), found.get(org_day, Amounts())
        for name in UNBILLED:
            if getattr(wanted, name) != getattr(got, name):
                yield ImportDifference(
                    organization_id=org_day.organization_id,
                    local_date=org_day.local_date,
                    where=where,
                    what=STORED.get(name, name),
                    expected=str(getattr(wanted, name)),
                    found=str(getattr(got, name)),
                )


def _zone_days(source: Source, plan: ImportPlan) -> Mapping[ZoneDay, set[str]]:
    """Return which organizations are expected on which local days, ordered by day."""
    days: dict[ZoneDay, set[str]] = defaultdict(set)
    for org_day in plan.by_day:
        zone = source.zone_of(org_day.organization_id)
        days[ZoneDay(org_day.local_date, zone)].add(org_day.organization_id)
    return {day: days[day] for day in sorted(days)}


def _stored(
    ledger: Ledger, source: Source, plan: ImportPlan
) -> dict[str, dict[OrganizationDay, Amounts]]:
    """Add up what the stores hold of this source, each of its imports and each store apart.

    Two imports of the same days hold the same events, and so do two stores after a copy. Each must
    agree with the source on the days that it has, and together they must have all days.
    """
    prefix = source_prefix(source)
    found: dict[str, dict[OrganizationDay, Amounts]] = {
        f"{ledger.target.name}: import:{plan.import_id}": {}
    }
    for day, organizations in _zone_days(source, plan).items():
        window = Window(*day_bounds(day.local_date, day.time_zone))
        groups = [(store.name, group) for store in ledger.stores for group in store.usage(window)]
        for name, group in groups:
            if group.source.startswith(prefix) and group.client_org_id in organizations:
                org_day = OrganizationDay(group.client_org_id, day.local_date)
                of_label = found.setdefault(f"{name}: {group.source}", {})
                of_label[org_day] = of_label.get(org_day, Amounts()) + group.amounts
    return _without_gaps(found, plan)


def _without_gaps(
    found: dict[str, dict[OrganizationDay, Amounts]], plan: ImportPlan
) -> dict[str, dict[OrganizationDay, Amounts]]:
    """Complete each import with the days that only another one holds."""
    anywhere = {org_day: totals for held in found.values() for org_day, totals in held.items()}
    return {
        label: {
            org_day: held.get(org_day, anywhere[org_day])
            for org_day in plan.by_day
            if org_day in anywhere
        }
        for label, held in found.items()
    }


def _copied(migration: Migration, plan: ImportPlan) -> dict[OrganizationDay, Amounts]:
    """Add up those events of a source that the store holds under the same id."""
    source = migration.source
    by_day: dict[OrganizationDay, RunningAmounts] = defaultdict(RunningAmounts)
    with SeenIds() as stored:
        for day in _zone_days(source, plan):
            window = Window(*day_bounds(day.local_date, day.time_zone))
            for event in migration.ledger.target.events(window):
                stored.add(event.event_id)
        for event in wanted_events(source, plan.span, migration.overlap, Remarks()):
            if event.event_id in stored:
                by_day[organization_day_of(event, source)].add_event(event)
    return {org_day: running.total() for org_day, running in by_day.items()}


def _summed(ledger: Ledger, source: Source, plan: ImportPlan) -> dict[OrganizationDay, Amounts]:
    """Add up the rows of the summaries that come from this source."""
    prefix = source_prefix(source)
    by_day: dict[OrganizationDay, Amounts] = {}
    known = ledger.summaries.organizations.directory()
    for day in sorted(
        {
            ZoneDay(org_day.local_date, known.organization(org_day.organization_id).time_zone)
            for org_day in plan.by_day
        }
    ):
        for row in ledger.summaries.days.stored_day(day).rows:
            if row.key.source.startswith(prefix):
                org_day = OrganizationDay(row.key.organization_id, day.local_date)
                by_day[org_day] = by_day.get(org_day, Amounts()) + row.amounts
    return by_day


def _as_difference(found: Difference) -> ImportDifference:
    return ImportDifference(
        organization_id=found.organization_id,
        local_date=found.local_date,
        where="summaries against store",
        what=f"{found.what} of {found.subject}",
        expected=found.computed,
        found=found.stored,
    )
