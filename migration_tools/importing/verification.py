"""Verification: source against store against summaries, by organization and day, exactly."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from migration_tools.importing.overlap import Occupancy, own_label
from migration_tools.importing.plan import Plan, Remarks, place_of, wanted_events
from migration_tools.importing.seen_ids import Identifiers
from migration_tools.importing.totals import COLUMNS, Figures, Place
from migration_tools.ledger import Ledger
from migration_tools.source import Source
from shared.core.days import ONE_DAY, ZoneDay, day_bounds
from shared.event_store.port import Window
from shared.projection.audit import Difference as SummaryDifference

_DIFFERENCES_MAX = 10_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure of an organization's day that is not the same on both sides."""

    organization_id: str
    local_date: date
    where: str
    what: str
    expected: str
    found: str


@dataclass
class Differences:
    """Differences as they are found; beyond ten thousand they are counted."""

    listed: list[Difference] = field(default_factory=list)
    unlisted: int = 0

    def note(self, found: Iterable[Difference]) -> None:
        """Note all that are found."""
        for difference in found:
            if len(self.listed) < _DIFFERENCES_MAX:
                self.listed.append(difference)
            else:
                self.unlisted += 1

    def __len__(self) -> int:
        return len(self.listed) + self.unlisted


def verify(
    ledger: Ledger, source: Source, occupancy: Occupancy, plan: Plan
) -> Iterator[Difference]:
    """Compare what a source holds with what the ledger holds of it, to the last digit."""
    if source.keeps_source:
        yield from _compare(plan.figures, _copied(ledger, source, occupancy, plan), "store")
    else:
        for where, figures in _stored(ledger, source, plan).items():
            yield from _compare(plan.figures, figures, where)
    if source.whole_days:
        yield from _compare(plan.figures, _summed(ledger, source, plan), "summaries")
    if plan.days:
        found = ledger.projection.differences(plan.days.first - ONE_DAY, plan.days.last + ONE_DAY)
        yield from map(_as_difference, found)


def _compare(
    expected: Mapping[Place, Figures], found: Mapping[Place, Figures], where: str
) -> Iterator[Difference]:
    for place in sorted(expected.keys() | found.keys()):
        wanted, got = expected.get(place, Figures()), found.get(place, Figures())
        for name in COLUMNS:
            if wanted[name] != got[name]:
                yield Difference(
                    organization_id=place.organization_id,
                    local_date=place.local_date,
                    where=where,
                    what=name,
                    expected=str(wanted[name]),
                    found=str(got[name]),
                )


def _zone_days(source: Source, plan: Plan) -> Mapping[ZoneDay, set[str]]:
    """Return which organizations are expected on which local days, in order."""
    days: dict[ZoneDay, set[str]] = defaultdict(set)
    for place in plan.figures:
        zone = source.zone_of(place.organization_id)
        days[ZoneDay(place.local_date, zone)].add(place.organization_id)
    return {day: days[day] for day in sorted(days)}


def _stored(ledger: Ledger, source: Source, plan: Plan) -> dict[str, dict[Place, Figures]]:
    """Add up what the stores hold of this source, each of its imports and each store apart.

    Two imports of the same days hold the same, and so do two stores after a copy; each must agree
    with the source by itself on the days that it has, and together they must have all.
    """
    prefix = own_label(source)
    found: dict[str, dict[Place, Figures]] = {f"{ledger.target.name}: import:{plan.import_id}": {}}
    for day, organizations in _zone_days(source, plan).items():
        window = Window(*day_bounds(day.local_date, day.time_zone))
        groups = [(store.name, group) for store in ledger.stores for group in store.usage(window)]
        for name, group in groups:
            if group.source.startswith(prefix) and group.client_org_id in organizations:
                place = Place(group.client_org_id, day.local_date)
                of_label = found.setdefault(f"{name}: {group.source}", {})
                of_label.setdefault(place, Figures()).add_sums(group.sums)
    return _without_gaps(found, plan)


def _without_gaps(
    found: dict[str, dict[Place, Figures]], plan: Plan
) -> dict[str, dict[Place, Figures]]:
    """Complete each with the days that only another one holds, as far as they agree."""
    anywhere = {place: figures for held in found.values() for place, figures in held.items()}
    return {
        label: {
            place: held.get(place, anywhere[place]) for place in plan.figures if place in anywhere
        }
        for label, held in found.items()
    }


def _copied(
    ledger: Ledger, source: Source, occupancy: Occupancy, plan: Plan
) -> dict[Place, Figures]:
    """Add up those events of a source that stand in the store under the same identity."""
    figures: dict[Place, Figures] = {}
    with Identifiers() as stored:
        for day in _zone_days(source, plan):
            window = Window(*day_bounds(day.local_date, day.time_zone))
            for event in ledger.target.events(window):
                stored.add(event.event_id)
        for event in wanted_events(source, plan.span, occupancy, Remarks()):
            if event.event_id in stored:
                figures.setdefault(place_of(event, source), Figures()).add_event(event)
    return figures


def _summed(ledger: Ledger, source: Source, plan: Plan) -> dict[Place, Figures]:
    """Add up the rows of the summaries that come from this source."""
    prefix = own_label(source)
    figures: dict[Place, Figures] = {}
    known = ledger.summaries.directory()
    for day in sorted(
        {
            ZoneDay(place.local_date, known.organization(place.organization_id).time_zone)
            for place in plan.figures
        }
    ):
        for row in ledger.summaries.stored_day(day).rows:
            if row.key.source.startswith(prefix):
                place = Place(row.key.organization_id, day.local_date)
                figures.setdefault(place, Figures()).add_amounts(row.amounts)
    return figures


def _as_difference(found: SummaryDifference) -> Difference:
    return Difference(
        organization_id=found.organization_id,
        local_date=found.local_date,
        where="summaries against store",
        what=f"{found.what} of {found.subject}",
        expected=found.computed,
        found=found.stored,
    )
