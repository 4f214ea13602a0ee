"""Moves: what a change of assignments takes from one organization to another, in numbers."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from scheduler.dashboard.filters import today_of
from scheduler.dashboard.report_cache import ReportCache
from scheduler.process.running import RunningSidecar
from scheduler.reports.sums import add_amounts
from shared.core.days import ONE_DAY, day_bounds, local_day
from shared.core.money import format_usd, from_pico
from shared.projection.organization import Assignment, Directory
from shared.projection.summary import Amounts
from shared.summary_db.port import UsageFilter

BY_HOST = "whom the host names"
_INSTANT = timedelta(milliseconds=1)
_Change = tuple[str, str]


@dataclass(frozen=True)
class AssignmentPreview:
    """Assignments of some users as they are and as they shall be."""

    before: Sequence[Assignment]
    after: Sequence[Assignment]

    @property
    def users(self) -> list[str]:
        """Whose assignments differ."""
        changed = set(self.before) ^ set(self.after)
        return sorted({each.external_user for each in changed})

    def first_day(self, zone: str) -> date:
        """Return the first local day that may be billed to somebody else."""
        changed = set(self.before) ^ set(self.after)
        return local_day(min(each.valid_from for each in changed), zone)


def preview_sentences(
    reports: ReportCache, sidecar: RunningSidecar, plan: AssignmentPreview
) -> list[str]:
    """Say which days, events and cost a plan takes from whom to whom."""
    if not plan.users:
        return ["Nothing changes."]
    zone = sidecar.settings.usage_timezone
    wanted = UsageFilter(start=plan.first_day(zone), end=today_of(sidecar) + ONE_DAY)
    directory = sidecar.summaries.directory()
    before, after = (
        Directory(directory.organizations, (), moves, directory.defaults)
        for moves in (plan.before, plan.after)
    )
    found: dict[_Change, list[tuple[str, Amounts]]] = defaultdict(list)
    for user in plan.users:
        one = UsageFilter(start=wanted.start, end=wanted.end, external_user=user)
        for line in reports.usage(one, ("day",)):
            day = line.group["day"]
            change = _change(before, after, user, day_bounds(date.fromisoformat(day), zone))
            if change is not None:
                found[change].append((day, line.amounts))
    if not found:
        return ["Nothing that was booked so far moves."]
    sentences = [_sentence(directory, *change, found[change]) for change in sorted(found)]
    final = "Their days are projected again; final days that change are in the corrections."
    return [*sentences, final]


def organization_name(directory: Directory, organization_id: str | None) -> str:
    """Return what to call an organization, or that the host decides."""
    return directory.organization(organization_id).name if organization_id else BY_HOST


def _change(
    before: Directory, after: Directory, user: str, bounds: tuple[datetime, datetime]
) -> _Change | None:
    """Return from whom to whom a day goes, or None when it stays; a part of a day counts."""
    start, end = bounds
    for instant in (start, end - _INSTANT):
        source = before.organization_of(user, "", instant)
        target = after.organization_of(user, "", instant)
        if source != target:
            return source, target
    return None


def _sentence(
    directory: Directory, source: str, target: str, moved: Sequence[tuple[str, Amounts]]
) -> str:
    total, days = add_amounts(amounts for _, amounts in moved), {day for day, _ in moved}
    return (
        f"{total.events:,} events on {len(days):,} days, at a cost of "
        f"{format_usd(from_pico(total.raw_pico_usd))} USD, go from "
        f"{organization_name(directory, source)} to {organization_name(directory, target)}."
    )
