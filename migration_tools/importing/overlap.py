"""Occupancy: which days of a ledger are taken, so that an import never counts anything twice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain
from typing import Literal, Self

from migration_tools.importing.seen_ids import Identifiers
from migration_tools.source import DaySpan, Remark, Source
from shared.core.days import ONE_DAY, day_bounds, day_start, local_day
from shared.core.event import UsageEvent
from shared.event_store.port import EventStore, UsageGroup, Window

_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
WHOLE_DAYS = "import:legacy-"
HELD = "held"
_OTHER_IMPORT = "another import holds the day; roll it back first"
Matches = Callable[[UsageGroup], bool]


@dataclass(kw_only=True)
class Occupancy:
    """What stands in the way of a source, found before its import begins.

    `taken` are days of the ledger's zone with the reason why nothing may come in, `held` those of
    organizations that another database's whole days fill; on a day of `answers` only what the
    store knows by its id may come in: the rest may be part of an answer that is billed as a whole.
    """

    zone: str
    today: date
    first_live: datetime | None = None
    taken: dict[date, str] = field(default_factory=dict)
    held: set[tuple[str, date]] = field(default_factory=set)
    answers: set[date] = field(default_factory=set)
    known: Identifiers = field(default_factory=Identifiers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.known.__exit__()

    def objection(self, event: UsageEvent, source: Source) -> Remark | None:
        """Say why an event of a source may not come in, or None."""
        if source.whole_days:
            zone = source.zone_of(event.client_org_id)
            day = local_day(event.occurred_at, zone)
            if self.first_live and day >= local_day(self.first_live, zone):
                at = f"{self.first_live:%Y-%m-%d %H:%M} UTC"
                return _objection(event, day, "live", f"live events begin on {at}")
            if day >= self.today:
                return _objection(event, day, "live", "the day has not ended")
        day = local_day(event.occurred_at, self.zone)
        if day in self.taken:
            return _objection(event, day, "taken", self.taken[day])
        if (event.client_org_id, day) in self.held:
            return _objection(event, day, HELD, _OTHER_IMPORT)
        if day in self.answers and event.request_id not in self.known:
            reason = "the day has answers billed as a whole (USAGE_TURNS=bill)"
            return _objection(event, day, "answers", reason)
        return None


def find_occupancy(
    stores: Sequence[EventStore],
    source: Source,
    span: DaySpan,
    *,
    zone: str,
    turns: Literal["bill", "observe"],
    now: datetime,
) -> Occupancy:
    """Look at what the ledger holds of the days of an import, its own events left out."""
    occupancy = Occupancy(zone=zone, today=local_day(now, zone))
    if source.keeps_source:
        return occupancy
    own = own_label(source)
    days = Days(stores, zone)
    if source.whole_days:
        end = day_start(span.last + ONE_DAY, zone) + ONE_DAY
        occupancy.first_live = first_live_event(stores, Window(_BEGINNING, end))
        occupancy.taken = dict.fromkeys(days.holding(span, _is_of_requests), _OTHER_IMPORT)
        occupancy.held = days.organizations(span, partial(_is_of_other_days, own))
        return occupancy
    whole = days.holding(span, lambda group: group.source.startswith(WHOLE_DAYS))
    occupancy.taken = dict.fromkeys(whole, "an import of whole days holds it; roll it back first")
    if turns == "bill":
        for day in days.holding(
            span, lambda group: not _is(group.source, own) and group.source != "manual"
        ):
            _look_into(occupancy, day, days, source)
    return occupancy


def own_label(source: Source) -> str:
    """Return how the `source` of every event begins that any import of this source wrote."""
    return f"import:{source.kind}-{source.identity}-"


def is_live(source: str) -> bool:
    """Tell whether events of this source were captured as they happened."""
    return not source.startswith("import:") and source != "manual"


@dataclass(frozen=True)
class Days:
    """The local days of all stores, asked as few times as possible."""

    stores: Sequence[EventStore]
    zone: str

    def holding(self, span: DaySpan, matches: Matches) -> list[date]:
        """Return the days that hold an event of a matching source, halving spans that hold any."""
        window = Window(day_start(span.first, self.zone), day_start(span.last + ONE_DAY, self.zone))
        if not _holds(self.stores, window, matches):
            return []
        if span.first == span.last:
            return [span.first]
        middle = span.first + (span.last - span.first) // 2
        return [
            *self.holding(DaySpan(span.first, middle), matches),
            *self.holding(DaySpan(middle + ONE_DAY, span.last), matches),
        ]

    def organizations(self, span: DaySpan, matches: Matches) -> set[tuple[str, date]]:
        """Return whose days hold an event of a matching source."""
        return {
            (group.client_org_id, day)
            for day in self.holding(span, matches)
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


def first_live_event(stores: Sequence[EventStore], window: Window) -> datetime | None:
    """Return when the first event that was captured as it happened occurred."""
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
    return min((event.occurred_at for event in events if is_live(event.source)), default=None)


def _look_into(occupancy: Occupancy, day: date, days: Days, source: Source) -> None:
    """Find out whether whole answers and single generations would meet on a day."""
    own = own_label(source)
    for event in days.events(day):
        if _is(event.source, own):
            continue
        if not source.knows_answers:
            occupancy.known.add(event.request_id)
            if event.grain == "turn":
                occupancy.answers.add(day)
        elif event.grain == "generation" and not event.message_id and event.is_settled:
            reason = "the day has generations that name no answer; they may be the same"
            occupancy.taken.setdefault(day, reason)


def _is_live(group: UsageGroup) -> bool:
    return is_live(group.source)


def _is_of_requests(group: UsageGroup) -> bool:
    """Match imports that know single requests."""
    return group.source.startswith("import:") and not group.source.startswith(WHOLE_DAYS)


def _is_of_other_days(own: str, group: UsageGroup) -> bool:
    """Match whole days that came from another database than the own one."""
    return group.source.startswith(WHOLE_DAYS) and not _is(group.source, own)


def _holds(stores: Sequence[EventStore], window: Window, matches: Matches) -> bool:
    return any(matches(group) for store in stores for group in store.usage(window))


def _is(source: str, own: str) -> bool:
    return source.startswith(own)


def _objection(event: UsageEvent, day: date, what: str, detail: str) -> Remark:
    return Remark(
        organization_id=event.client_org_id,
        local_date=day,
        what=what,
        detail=detail,
        left_out=True,
    )
