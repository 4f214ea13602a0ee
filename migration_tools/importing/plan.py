"""The plan of an import: everything it would write, added up, before anything is written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b

from migration_tools.importing.overlap import Occupancy
from migration_tools.importing.seen_ids import Identifiers
from migration_tools.importing.totals import Figures, Place
from migration_tools.source import EVER, DaySpan, Remark, Source
from shared.core.days import local_day
from shared.core.event import UsageEvent

Progress = Callable[[int], None]
# What stays behind for one of these reasons is in the ledger already, or will come by itself.
HARMLESS = frozenset({"live", "answers"})
_REMARKS_MAX = 10_000


@dataclass
class Remarks:
    """What a person should know, each thing once; beyond ten thousand things they are counted."""

    listed: dict[Remark, int] = field(default_factory=dict)
    unlisted: int = 0

    def add(self, remark: Remark) -> None:
        """Note something; the same remark again only counts."""
        if remark in self.listed or len(self.listed) < _REMARKS_MAX:
            self.listed[remark] = self.listed.get(remark, 0) + 1
        else:
            self.unlisted += 1

    @property
    def is_incomplete(self) -> bool:
        """Whether something was left out that is nowhere else."""
        return bool(self.unlisted) or any(
            remark.left_out and remark.what not in HARMLESS for remark in self.listed
        )


@dataclass(kw_only=True)
class Plan:
    """What an import brings: figures by organization and day, and what stays behind and why.

    The figures count requests; of the `events`, `parts` are parts of requests. `contents` tells two
    readings of a day apart; `digest` those of everything.
    """

    import_id: str
    span: DaySpan
    figures: dict[Place, Figures]
    contents: dict[Place, str]
    digest: str
    events: int
    parts: int
    days: DaySpan | None
    remarks: Remarks

    @property
    def totals(self) -> Figures:
        """The sum of all days."""
        totals = Figures()
        for figures in self.figures.values():
            totals.add(figures)
        return totals


def import_id(source: Source, span: DaySpan) -> str:
    """Name an import by what it brings, so that the same command is the same import."""
    days = "all" if span.first <= EVER else f"{span.first:%Y%m%d}-{span.last:%Y%m%d}"
    return f"{source.kind}-{source.identity}-{days}"


def wanted_events(
    source: Source, span: DaySpan, occupancy: Occupancy, remarks: Remarks
) -> Iterator[UsageEvent]:
    """Return the events of a source that may come in, each observation once."""
    label = f"import:{import_id(source, span)}"
    with Identifiers() as seen:
        for event in source.events(span, label, remarks.add):
            objection = occupancy.objection(event, source)
            if objection:
                remarks.add(objection)
            elif source.whole_days or seen.add(event.event_id):
                yield event


def make_plan(
    source: Source, span: DaySpan, occupancy: Occupancy, progress: Progress = lambda _: None
) -> Plan:
    """Read a source once and add up what an import would write."""
    figures: dict[Place, Figures] = {}
    contents: dict[Place, blake2b] = {}
    remarks = Remarks()
    whole = blake2b(digest_size=16)
    count = parts = 0
    for event in wanted_events(source, span, occupancy, remarks):
        place = place_of(event, source)
        if place not in figures:
            figures[place] = Figures()
            contents[place] = blake2b(digest_size=8)
        figures[place].add_event(event)
        identity = f"{event.event_id} {event.occurred_at.isoformat()}".encode()
        contents[place].update(identity)
        whole.update(identity)
        count += 1
        parts += not event.requests
        progress(count)
    return Plan(
        import_id=import_id(source, span),
        span=span,
        figures=figures,
        contents={place: content.hexdigest() for place, content in contents.items()},
        digest=whole.hexdigest(),
        events=count,
        parts=parts,
        days=_days({place.local_date for place in figures}),
        remarks=remarks,
    )


def place_of(event: UsageEvent, source: Source) -> Place:
    """Return the organization's day that an event is counted on."""
    day = local_day(event.occurred_at, source.zone_of(event.client_org_id))
    return Place(event.client_org_id, day)


def _days(days: set[date]) -> DaySpan | None:
    return DaySpan(min(days), max(days)) if days else None
