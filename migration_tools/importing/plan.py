"""The plan of an import: the totals of everything it would write, before anything is written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b

from migration_tools.importing.overlap import OverlapCheck
from migration_tools.importing.seen_ids import SeenIds
from migration_tools.source import EVER, DaySpan, Remark, Source
from shared.core.amounts import Amounts, RunningAmounts
from shared.core.days import local_day
from shared.core.event import UsageEvent

ImportProgress = Callable[[int], None]
# What is left out for one of these reasons is in the ledger already, or arrives by itself.
HARMLESS = frozenset({"live", "answers"})
_REMARKS_MAX = 10_000


@dataclass(frozen=True, order=True)
class OrganizationDay:
    """An organization's local day."""

    organization_id: str
    local_date: date


@dataclass
class Remarks:
    """Warnings, each once with how often it came; beyond ten thousand they are only counted."""

    listed: dict[Remark, int] = field(default_factory=dict)
    unlisted: int = 0

    def add(self, remark: Remark) -> None:
        if remark in self.listed or len(self.listed) < _REMARKS_MAX:
            self.listed[remark] = self.listed.get(remark, 0) + 1
        else:
            self.unlisted += 1

    @property
    def is_incomplete(self) -> bool:
        """Whether something was left out that is not in the ledger otherwise."""
        return bool(self.unlisted) or any(
            remark.left_out and remark.what not in HARMLESS for remark in self.listed
        )


@dataclass(kw_only=True)
class ImportPlan:
    """What an import would write by organization and day, and what is left out and why.

    Amounts count requests; `parts` of the `events` are parts of requests. `contents` are digests of
    each day, `digest` one of everything: they tell two readings of a source apart.
    """

    import_id: str
    span: DaySpan
    by_day: dict[OrganizationDay, Amounts]
    contents: dict[OrganizationDay, str]
    digest: str
    events: int
    parts: int
    days: DaySpan | None
    remarks: Remarks

    @property
    def totals(self) -> Amounts:
        return sum(self.by_day.values(), Amounts())


def import_id(source: Source, span: DaySpan) -> str:
    """Name an import by source and span, so that the same command is the same import."""
    days = "all" if span.first <= EVER else f"{span.first:%Y%m%d}-{span.last:%Y%m%d}"
    return f"{source.kind}-{source.identity}-{days}"


def wanted_events(
    source: Source, span: DaySpan, overlap: OverlapCheck, remarks: Remarks
) -> Iterator[UsageEvent]:
    """Return the events of a source that may be imported, each observation once."""
    label = f"import:{import_id(source, span)}"
    with SeenIds() as seen:
        for event in source.events(span, label, remarks.add):
            reason = overlap.rejection_reason(event, source)
            if reason:
                remarks.add(reason)
            elif source.whole_days or seen.add(event.event_id):
                yield event


def make_plan(
    source: Source, span: DaySpan, overlap: OverlapCheck, progress: ImportProgress = lambda _: None
) -> ImportPlan:
    """Read a source once and add up what an import would write."""
    by_day: dict[OrganizationDay, RunningAmounts] = {}
    contents: dict[OrganizationDay, blake2b] = {}
    remarks = Remarks()
    whole = blake2b(digest_size=16)
    count = parts = 0
    for event in wanted_events(source, span, overlap, remarks):
        org_day = organization_day_of(event, source)
        if org_day not in by_day:
            by_day[org_day] = RunningAmounts()
            contents[org_day] = blake2b(digest_size=8)
        by_day[org_day].add_event(event)
        identity = f"{event.event_id} {event.occurred_at.isoformat()}".encode()
        contents[org_day].update(identity)
        whole.update(identity)
        count += 1
        parts += not event.requests
        progress(count)
    return ImportPlan(
        import_id=import_id(source, span),
        span=span,
        by_day={org_day: running.total() for org_day, running in by_day.items()},
        contents={org_day: content.hexdigest() for org_day, content in contents.items()},
        digest=whole.hexdigest(),
        events=count,
        parts=parts,
        days=_days({org_day.local_date for org_day in by_day}),
        remarks=remarks,
    )


def organization_day_of(event: UsageEvent, source: Source) -> OrganizationDay:
    """Return the organization's day that an event is counted on."""
    day = local_day(event.occurred_at, source.zone_of(event.client_org_id))
    return OrganizationDay(event.client_org_id, day)


def _days(days: set[date]) -> DaySpan | None:
    return DaySpan(min(days), max(days)) if days else None
