"""The overlap check: which days an import may not touch, so that nothing is counted twice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain
from typing import Literal, Self

from migration_tools.importing.seen_ids import SeenIds
from migration_tools.source import DaySpan, Remark, Source
from shared.core.days import ONE_DAY, day_bounds, day_start, local_day
from shared.core.event import UsageEvent
from shared.event_store.port import EventStore, UsageGroup, Window

_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
WHOLE_DAYS = "import:legacy-"
OTHER_IMPORT_DAY = "held"
_OTHER_IMPORT = "another import holds the day; roll it back first"
Matches = Callable[[UsageGroup], bool]


@dataclass(kw_only=True)
class OverlapCheck:
    """What keeps events of a source out, found before its import begins.

    `blocked_days` are days of the ledger's zone, with the reason why nothing may be imported;
    `other_import_days` are days of organizations that were imported whole from another database.
    On `answer_days` only requests of `known_requests` are imported: any other may be part of an
    answer that is billed as a whole.
    """

    zone: str
    today: date
    first_live: datetime | None = None
    blocked_days: dict[date, str] = field(default_factory=dict)
    other_import_days: set[tuple[str, date]] = field(default_factory=set)
    answer_days: set[date] = field(default_factory=set)
    known_requests: SeenIds = field(default_factory=SeenIds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.known_requests.__exit__()

    def rejection_reason(self, event: UsageEvent, source: Source) -> Remark | None:
        """Return why an event of a source may not be imported, or None."""
        if source.whole_days:
            zone = source.zone_of(event.client_org_id)
            day = local_day(event.occurred_at, zone)
            if self.first_live and day >= local_day(self.first_live, zone):
                at = f"{self.first_live:%Y-%m-%d %H:%M} UTC"
                return _rejection(event, day, "live", f"live events begin on {at}")
            if day >= self.today:
                return _rejection(event, day, "live", "the day has not ended")
        day = local_day(event.occurred_at, self.zone)
        if day in self.blocked_days:
            return _rejection(event, day, "taken", self.blocked_days[day])
        if (event.client_org_id, day) in self.other_import_days:
            return _rejection(event, day, OTHER_IMPORT_DAY, _OTHER_IMPORT)
        if day in self.answer_days and event.request_id not in self.known_requests:
            reason = "the day has answers billed as a whole (USAGE_TURNS=bill)"
            return _rejection(event, day, "answers", reason)
        return None


def check_overlap(
    stores: Sequence[EventStore],
    source: Source,
    span: DaySpan,
    *,
    zone: str,
    turns: Literal["bill", "observe"],
    now: datetime,
) -> OverlapCheck:
    """Check an import against the events in the stores, except those that it wrote itself."""
    overlap = OverlapCheck(zone=zone, today=local_day(now, zone))
    if source.keeps_source:
        return overlap
    own = source_prefix(source)
    days = StoreDays(stores, zone)
    if source.whole_days:
        end = day_start(span.last + ONE_DAY, zone) + ONE_DAY
        overlap.first_live = _first_live_event(stores, Window(_BEGINNING, end))
        overlap.blocked_days = dict.fromkeys(
            days.days_with(span, _has_single_requests), _OTHER_IMPORT
        )
        overlap.other_import_days = days.organization_days_with(
            span, partial(_is_other_database, own)
        )
        return overlap
    whole = days.days_with(span, lambda group: group.source.startswith(WHOLE_DAYS))
    overlap.blocked_days = dict.fromkeys(
        whole, "an import of whole days holds it; roll it back first"
    )
    if turns == "bill":
        for day in days.days_with(
            span, lambda group: not group.source.startswith(own) and group.source != "manual"
        ):
            _check_answers(overlap, day, days, source)
    return overlap


def source_prefix(source: Source) -> str:
    """Return how the `source` of all events begins that any import of this source wrote."""
    return f"import:{source.kind}-{source.identity}-"


@dataclass(frozen=True)
class StoreDays:
    """The local days of all stores, with few queries."""

    stores: Sequence[EventStore]
    zone: str

    def days_with(self, span: DaySpan, matches: Matches) -> list[date]:
        """Return the days with an event of a matching source, by bisection."""
        window = Window(day_start(span.first, self.zone), day_start(span.last + ONE_DAY, self.zone))
        if not _holds(self.stores, window, matches):
            return []
        if span.first == span.last:
            return [span.first]
        middle = span.first + (span.last - span.first) // 2
        return [
            *self.days_with(DaySpan(span.first, middle), matches),
            *self.days_with(DaySpan(middle + ONE_DAY, span.last), matches),
        ]

    def organization_days_with(self, span: DaySpan, matches: Matches) -> set[tuple[str, date]]:
        return {
            (group.client_org_id, day)
            for day in self.days_with(span, matches)
            for store in self.stores
            for group in store.usage(Window(*day_bounds(day, self.zone)))
            if matches(group)
        }

    def events(self, day: date) -> Iterator[UsageEvent]:
        """Return the events of a day and of the hour on either side."""
        hour = timedelta(hours=1)
        start, end = day_start(day, self.zone), day_start(day + ONE_DAY, self.zone)
        window = Window(start - hour, end + hour)
        return chain.from_iterable(store.events(window) for store in self.stores)


def _first_live_event(stores: Sequence[EventStore], window: Window) -> datetime | None:
    """Return the time of the first event that a host or the webhook captured."""
    if not _holds(stores, window, _is_live):
        return None
    start, end = window.start, window.end
    while end - start > ONE_DAY:
        middle = start + (end - start) // ONE_DAY // 2 * ONE_DAY
        if middle > start and _holds(stores, Window(start, middle), _is_live):
            end = middle
        elif middle > start:
            start = middle
        else:
            break
    events = chain.from_iterable(store.events(Window(start, end)) for store in stores)
    return min((event.occurred_at for event in events if _is_live(event)), default=None)


def _check_answers(overlap: OverlapCheck, day: date, days: StoreDays, source: Source) -> None:
    """Find out whether whole answers and single generations would overlap on a day."""
    own = source_prefix(source)
    for event in days.events(day):
        if event.source.startswith(own):
            continue
        if not source.knows_answers:
            overlap.known_requests.add(event.request_id)
            if event.grain == "turn":
                overlap.answer_days.add(day)
        elif event.grain == "generation" and not event.message_id and event.is_settled:
            reason = "the day has generations that name no answer; they may be the same"
            overlap.blocked_days.setdefault(day, reason)


def _is_live(row: UsageGroup | UsageEvent) -> bool:
    return not row.source.startswith("import:") and row.source != "manual"


def _has_single_requests(group: UsageGroup) -> bool:
    """Match imports that know single requests."""
    return group.source.startswith("import:") and not group.source.startswith(WHOLE_DAYS)


def _is_other_database(own: str, group: UsageGroup) -> bool:
    """Match whole days that came from another database than the own one."""
    return group.source.startswith(WHOLE_DAYS) and not group.source.startswith(own)


def _holds(stores: Sequence[EventStore], window: Window, matches: Matches) -> bool:
    return any(matches(group) for store in stores for group in store.usage(window))


def _rejection(event: UsageEvent, day: date, what: str, detail: str) -> Remark:
    return Remark(
        organization_id=event.client_org_id,
        local_date=day,
        what=what,
        detail=detail,
        left_out=True,
    )
