"""Aggregation of one local day of a zone for its organizations."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from shared.core.amounts import RunningAmounts
from shared.core.days import ZoneDay
from shared.core.event import UsageEvent
from shared.core.rows import UnmeteredRow
from shared.errors import ProjectionError
from shared.event_store.port import UsageGroup, Window
from shared.projection.organization import Directory
from shared.projection.resolution import Resolution, still_unmetered
from shared.projection.summary import (
    DayFacts,
    DayFinding,
    SummaryKey,
    UnmeteredCount,
    priced,
)


@dataclass(frozen=True)
class DayReading:
    """What a day adds up to; `events_read` counts all observations in it, of every organization."""

    facts: DayFacts
    events_read: int
    was_resolved: bool


class DayAggregator:
    """Adds up one day of a zone: bills, unmetered rows and findings, each for its organization."""

    def __init__(self, day: ZoneDay, directory: Directory) -> None:
        self.directory = directory
        self._day = day
        self._sums: dict[SummaryKey, RunningAmounts] = defaultdict(RunningAmounts)
        self._events_read = 0
        self._unmetered: Counter[tuple[str, str, str, str]] = Counter()
        self._findings: list[DayFinding] = []

    def add_group(self, group: UsageGroup, at: datetime) -> None:
        """Add a sum of the store; `at` is an instant at which its user was where all of it was."""
        self._events_read += group.observations
        organization = self._organization(group.external_user, group.client_org_id, at)
        if organization is not None:
            self._sums[self._key(organization, group)].add(group.amounts)

    def subtract(self, event: UsageEvent, at: datetime) -> None:
        """Subtract an event from the sum that holds it, because it is resolved with others."""
        self._events_read -= 1
        organization = self._organization(event.external_user, event.client_org_id, at)
        if organization is not None:
            self._sums[self._key(organization, event)].subtract_event(event)

    def add_resolution(
        self, resolution: Resolution, events: Sequence[UsageEvent], window: Window
    ) -> None:
        """Add the bills and the findings of a day; those of its edges belong to its neighbours."""
        self._events_read += sum(window.start <= event.occurred_at < window.end for event in events)
        for bill in resolution.bills:
            event = bill.event
            if not window.start <= event.occurred_at < window.end:
                continue
            organization = self._place(event)
            if organization is not None:
                self._sums[self._key(organization, event)].add_event(event)
        self._add_findings(resolution, events, window)

    def add_unmetered(self, rows: Sequence[UnmeteredRow], events: Iterable[UsageEvent]) -> None:
        """Count the unmetered rows of the day that no event of their answer explains."""
        for row in still_unmetered(rows, events):
            organization = self._place(row)
            if organization is not None:
                self._unmetered[organization, row.external_user, row.model, row.task] += 1

    def reading(self, *, was_resolved: bool) -> DayReading:
        """Return the day as it stands.

        Raises ProjectionError when more was subtracted than was in it.
        """
        day = self._day.local_date
        rows = priced(self._sums, self.directory)
        if any(row.amounts.events < 0 for row in rows):
            raise ProjectionError("events were deleted while the day was read; the next run reads")
        facts = DayFacts(
            rows=rows,
            unmetered=[
                _unmetered(day, key, self._unmetered[key]) for key in sorted(self._unmetered)
            ],
            findings=sorted(self._findings),
        )
        return DayReading(facts, self._events_read, was_resolved)

    def _add_findings(
        self, resolution: Resolution, events: Sequence[UsageEvent], window: Window
    ) -> None:
        wanted = {finding.request_id for finding in resolution.findings}
        known = {event.request_id: event for event in events if event.request_id in wanted}
        known |= {
            bill.event.request_id: bill.event
            for bill in resolution.bills
            if bill.event.request_id in wanted
        }
        for finding in resolution.findings:
            organization = self._place(known[finding.request_id])
            if organization is not None and window.start <= finding.occurred_at < window.end:
                self._findings.append(
                    DayFinding(
                        organization_id=organization,
                        local_date=self._day.local_date,
                        request_id=finding.request_id,
                        kind=finding.kind,
                        detail=finding.detail,
                    )
                )

    def _place(self, row: UsageEvent | UnmeteredRow) -> str | None:
        return self._organization(row.external_user, row.client_org_id, row.occurred_at)

    def _organization(self, user: str, client_org_id: str, at: datetime) -> str | None:
        """Return the organization to bill, or None when this is no day of its zone."""
        found = self.directory.organization_of(user, client_org_id, at)
        zone = self.directory.organization(found).time_zone
        return found if zone == self._day.time_zone else None

    def _key(self, organization: str, usage: UsageEvent | UsageGroup) -> SummaryKey:
        return SummaryKey(
            organization_id=organization,
            local_date=self._day.local_date,
            external_user=usage.external_user,
            model=usage.model,
            task=usage.task,
            source=usage.source,
        )


def _unmetered(day: date, key: tuple[str, str, str, str], generations: int) -> UnmeteredCount:
    organization, user, model, task = key
    return UnmeteredCount(
        organization_id=organization,
        local_date=day,
        external_user=user,
        model=model,
        task=task,
        generations=generations,
    )
