"""Bills: the single events behind a figure, resolved and attributed as the projection does it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from shared.core.days import ZoneDay
from shared.core.event import UsageEvent
from shared.event_store.port import EventStore
from shared.projection.day_reader import day_window, with_edges
from shared.projection.organization import Directory
from shared.projection.resolution import resolve
from shared.summary_db.database import SummaryDatabase
from shared.summary_db.reports import UsageFilter

# What a bill is whose true cost is not known: with an estimate it is both.
Unsettled = Literal["pending", "estimated"]


@dataclass(frozen=True, kw_only=True)
class BilledEvent:
    """One bill with its organization, its local day, and the number of its observations."""

    organization_id: str
    local_date: date
    event: UsageEvent
    observations: int
    is_conflict: bool


@dataclass(frozen=True)
class Cursor:
    """A position in the list of bills: a local day and how many of its bills come before."""

    day: date
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.day}.{self.offset}"


@dataclass(frozen=True)
class BillReader:
    """Reads bills day by day, only days with usage. Raises DeliveryError and ProjectionError."""

    store: EventStore
    summaries: SummaryDatabase
    turns: Literal["bill", "observe"]

    def page(
        self, wanted: UsageFilter, limit: int, start: Cursor | None = None
    ) -> tuple[list[BilledEvent], Cursor | None]:
        """Return at most `limit` bills from a cursor on, and the cursor of the next page."""
        found: list[BilledEvent] = []
        for day, bills in self._days(wanted, start):
            skipped = start.offset if start and start.day == day else 0
            room = limit - len(found)
            found.extend(bills[skipped : skipped + room])
            if len(bills) > skipped + room:
                return found, Cursor(day, skipped + room)
            if len(found) == limit:
                return found, Cursor(day, len(bills))
        return found, None

    def all(self, wanted: UsageFilter) -> Iterator[BilledEvent]:
        """Return all bills, one day in memory at a time."""
        for _, bills in self._days(wanted, None):
            yield from bills

    def unsettled(self, wanted: UsageFilter, cost: Unsettled) -> Iterator[BilledEvent]:
        """Return unsettled bills, the newest day first; only days that have one are read."""
        for line in reversed(self.summaries.reports.usage(wanted, ("day",))):
            if not getattr(line.amounts, cost):
                continue
            day = date.fromisoformat(line.group["day"])
            for bill in self.all(replace(wanted, start=day, end=day)):
                is_estimated = bill.event.estimated_cost_usd is not None
                if not bill.event.is_settled and (cost == "pending" or is_estimated):
                    yield bill

    def _days(
        self, wanted: UsageFilter, start: Cursor | None
    ) -> Iterator[tuple[date, list[BilledEvent]]]:
        first = max(wanted.start, start.day) if start else wanted.start
        if first > wanted.end:
            return
        directory = self.summaries.organizations.directory()
        zones = _zones(directory, wanted)
        lines = self.summaries.reports.usage(replace(wanted, start=first), ("day",))
        for line in lines:
            day = date.fromisoformat(line.group["day"])
            bills = [
                bill for zone in zones for bill in self._read(ZoneDay(day, zone), directory, wanted)
            ]
            yield (
                day,
                sorted(bills, key=lambda bill: (bill.event.occurred_at, bill.event.request_id)),
            )

    def _read(
        self, day: ZoneDay, directory: Directory, wanted: UsageFilter
    ) -> Iterator[BilledEvent]:
        window = day_window(day)
        events = self.store.events(with_edges(window))
        for bill in resolve(events, turns=self.turns).bills:
            event = bill.event
            if not window.start <= event.occurred_at < window.end:
                continue
            organization_id = directory.organization_of(
                event.external_user, event.client_org_id, event.occurred_at
            )
            is_here = directory.organization(organization_id).time_zone == day.time_zone
            if is_here and _matches(event, organization_id, wanted):
                yield BilledEvent(
                    organization_id=organization_id,
                    local_date=day.local_date,
                    event=event,
                    observations=bill.observations,
                    is_conflict=bill.conflict,
                )


def _zones(directory: Directory, wanted: UsageFilter) -> Sequence[str]:
    if wanted.organization_id is None:
        return directory.zones()
    return [directory.organization(wanted.organization_id).time_zone]


def _matches(event: UsageEvent, organization_id: str, wanted: UsageFilter) -> bool:
    sides = (
        (wanted.organization_id, organization_id),
        (wanted.external_user, event.external_user),
        (wanted.model, event.model),
        (wanted.provider, event.model.partition("/")[0]),
        (wanted.task, event.task),
        (wanted.source, event.source),
    )
    return all(side in (None, value) for side, value in sides)
