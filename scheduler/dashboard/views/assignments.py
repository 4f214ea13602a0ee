"""Pages: who belongs to which organization since when, and changing that after a preview."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.dashboard.filters import today_of
from scheduler.dashboard.forms import (
    Confirmed,
    Text,
    confirm,
    day_of,
    first_instant,
    redirect,
)
from scheduler.dashboard.pages import render
from scheduler.dashboard.report_cache import ReportCache, ReportCacheDep
from scheduler.dashboard.spans import RECENT
from scheduler.process.running import RunningSidecar
from scheduler.services import assignments as service
from scheduler.services.assignments import AssignmentChange, NewAssignment, known_assignment
from scheduler.services.errors import Unusable
from scheduler.services.inputs import read_input
from shared.core.amounts import Amounts
from shared.core.days import ONE_DAY, day_bounds, local_day
from shared.core.event import UNASSIGNED
from shared.core.money import format_usd, from_pico
from shared.projection.organization import Assignment, Directory
from shared.summary_db.reports import UsageFilter

router = APIRouter()

_LIST = "/ui/assignments"
_BY_HOST = "whom the host names"
_INSTANT = timedelta(milliseconds=1)
_ID_MAX = 2**31 - 1
# The organization that usage moves from, and the one that it moves to.
_Move = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class AssignmentPeriod:
    """An assignment between those of the same user before and after it."""

    held: Assignment
    before: Assignment | None
    after: Assignment | None

    @property
    def ending(self) -> Assignment | None:
        """What ends it and gives the decision back to the host."""
        is_ending = self.after is not None and self.after.organization_id is None
        return self.after if is_ending else None

    @property
    def successor(self) -> Assignment | None:
        """What assigns the user to another organization afterwards."""
        return None if self.ending else self.after

    def first_day(self, zone: str) -> str:
        """Return its first day, empty when it holds from ever."""
        return "" if self.held.valid_from.year == 1970 else str(_day(self.held, zone))

    def last_day(self, zone: str) -> str:
        """Return its last day, empty when no other assignment follows."""
        return str(_day(self.after, zone) - ONE_DAY) if self.after else ""


@router.get("/assignments")
def assignments(request: Request, sidecar: SidecarDep, reports: ReportCacheDep) -> Response:
    """Show users without an organization first, then all assignments."""
    seen = _seen(reports, today_of(sidecar) - RECENT, today_of(sidecar))
    directory = sidecar.summaries.organizations.directory()
    lost = {user: orgs[UNASSIGNED] for user, orgs in seen.items() if UNASSIGNED in orgs}
    known = service.list_assignments(sidecar.summaries)
    assigned = {each.external_user for each in known}
    values = {
        "lost": sorted(lost.items(), key=lambda each: -each[1].raw_pico_usd),
        "assignments": known,
        "by_host": {
            user: sorted(orgs)
            for user, orgs in sorted(seen.items())
            if user not in assigned and user not in lost
        },
        "names": sidecar.summaries.users.names(),
        "clients": directory.organizations,
        "organizations": sorted(
            (each for each in directory.organizations.values() if each.is_active),
            key=lambda each: each.name,
        ),
    }
    return render(request, "assignments.html", values)


@router.post("/assignments")
def assign(
    request: Request,
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    user: Annotated[list[str], Form()] = [],  # noqa: B006 read only
    another: Text = "",
    organization_id: Text = "",
    valid_from: Text = "",
    confirmed: Confirmed = False,
) -> Response:
    users = list(dict.fromkeys(each for each in (*user, another.strip()) if each))
    if not users:
        raise Unusable("choose at least one user")
    since = first_instant(valid_from, sidecar.settings.usage_timezone)
    bodies = [
        read_input(
            NewAssignment,
            external_user=each,
            organization_id=organization_id,
            valid_from=since,
        )
        for each in users
    ]
    if not confirmed:
        directory = sidecar.summaries.organizations.directory()
        whom, known = _organization_name(directory, organization_id), list(directory.assignments)
        since_when = f"from {valid_from} on" if valid_from else "for all their days"
        sentences = [
            f"{len(users)} users will belong to {whom}, {since_when}.",
            *_preview(reports, sidecar, known, _with_new(known, bodies)),
        ]
        fields = {"user": users, "organization_id": organization_id, "valid_from": valid_from}
        return confirm(request, "Assign users", sentences, fields, _LIST)
    service.assign(sidecar.summaries, bodies)
    return redirect(_LIST)


@router.post("/assignments/remove")
def remove(
    request: Request,
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    assignment_id: Annotated[int, Form(ge=1, le=_ID_MAX)],
    confirmed: Confirmed = False,
) -> Response:
    """Remove an assignment; the user belongs to where the one before it says."""
    directory = sidecar.summaries.organizations.directory()
    removed = known_assignment(directory, assignment_id)
    if not confirmed:
        user = sidecar.summaries.users.names().get(removed.external_user, removed.external_user)
        name = _organization_name(directory, removed.organization_id)
        known = list(directory.assignments)
        kept = [each for each in known if each != removed]
        sentences = [
            f"{user} will belong where they did before {name}.",
            *_preview(reports, sidecar, known, kept),
        ]
        fields = {"assignment_id": str(assignment_id)}
        return confirm(request, "Take an assignment back", sentences, fields, _LIST)
    service.remove(sidecar.summaries, assignment_id)
    return redirect(_LIST)


@router.get("/assignment")
def assignment(
    request: Request, sidecar: SidecarDep, assignment_id: Annotated[int, Query(ge=1, le=_ID_MAX)]
) -> Response:
    period, zone = _period(sidecar, assignment_id), sidecar.settings.usage_timezone
    directory = sidecar.summaries.organizations.directory()
    values = {
        "period": period,
        "first_day": period.first_day(zone),
        "last_day": period.last_day(zone),
        "names": sidecar.summaries.users.names(),
        "organizations": sorted(
            (
                each
                for each in directory.organizations.values()
                if each.is_active or each.organization_id == period.held.organization_id
            ),
            key=lambda each: each.name,
        ),
        "clients": directory.organizations,
    }
    return render(request, "assignment.html", values)


@router.post("/assignment")
def correct(
    request: Request,
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    assignment_id: Annotated[int, Form(ge=1, le=_ID_MAX)],
    organization_id: Text = "",
    first_day: Text = "",
    last_day: Text = "",
    confirmed: Confirmed = False,
) -> Response:
    """Correct an assignment and its ending; the days of others bound it."""
    period = _period(sidecar, assignment_id)
    wanted, ending = _wanted(sidecar, period, organization_id, first_day, last_day)
    if not confirmed:
        known = _of_user(sidecar, period.held.external_user)
        kept = [each for each in known if each not in (period.held, period.ending)]
        after = [*kept, wanted, *([ending] if ending else [])]
        sentences = _preview(reports, sidecar, known, after)
        fields = {
            "assignment_id": str(assignment_id),
            "organization_id": organization_id,
            "first_day": first_day,
            "last_day": last_day,
        }
        back = f"/ui/assignment?assignment_id={assignment_id}"
        return confirm(request, "Correct an assignment", sentences, fields, back)
    _write(sidecar, period, wanted, ending)
    return redirect(_LIST)


def _seen(reports: ReportCache, start: date, end: date) -> dict[str, dict[str, Amounts]]:
    """Return usage by user and by the organization that is billed for it."""
    wanted = UsageFilter(start=start, end=end)
    seen: dict[str, dict[str, Amounts]] = {}
    for line in reports.usage(wanted, ("external_user", "organization_id")):
        user, organization = line.group["external_user"], line.group["organization_id"]
        seen.setdefault(user, {})[organization] = line.amounts
    return seen


def _with_new(known: Sequence[Assignment], bodies: Sequence[NewAssignment]) -> list[Assignment]:
    """Return all assignments; a new one takes the place of one of the same user and second."""
    new = [Assignment(assignment_id=0, **body.model_dump()) for body in bodies]
    replaced = {(each.external_user, each.valid_from) for each in new}
    kept = [each for each in known if (each.external_user, each.valid_from) not in replaced]
    return [*kept, *new]


def _wanted(
    sidecar: RunningSidecar,
    period: AssignmentPeriod,
    organization_id: str,
    first_day: str,
    last_day: str,
) -> tuple[Assignment, Assignment | None]:
    """Return the corrected assignment and the one that ends it, if any.

    A day that was not changed keeps its instant. Raises Unusable for impossible days.
    """
    zone = sidecar.settings.usage_timezone
    keeps_start = first_day == period.first_day(zone)
    since = period.held.valid_from if keeps_start else first_instant(first_day, zone)
    wanted = replace(period.held, organization_id=organization_id or None, valid_from=since)
    ending = _ending(period, last_day, zone)
    _check_order(period, wanted, ending, zone)
    return wanted, ending


def _ending(period: AssignmentPeriod, last_day: str, zone: str) -> Assignment | None:
    if not last_day or last_day == period.last_day(zone):
        return period.ending if last_day else None
    return Assignment(
        assignment_id=0,
        external_user=period.held.external_user,
        organization_id=None,
        valid_from=first_instant(str(day_of(last_day) + ONE_DAY), zone),
    )


def _check_order(
    period: AssignmentPeriod, wanted: Assignment, ending: Assignment | None, zone: str
) -> None:
    last = ending or wanted
    if ending and ending.valid_from <= wanted.valid_from:
        raise Unusable("the last day lies before the first")
    if period.before and wanted.valid_from <= period.before.valid_from:
        raise Unusable(f"the assignment before this one begins on {_day(period.before, zone)}")
    if period.successor and last.valid_from >= period.successor.valid_from:
        raise Unusable(f"the next assignment begins on {_day(period.successor, zone)}")


def _write(
    sidecar: RunningSidecar, period: AssignmentPeriod, wanted: Assignment, ending: Assignment | None
) -> None:
    if period.ending and period.ending != ending:
        service.remove(sidecar.summaries, period.ending.assignment_id)
    body = AssignmentChange(organization_id=wanted.organization_id, valid_from=wanted.valid_from)
    service.correct(sidecar.summaries, period.held.assignment_id, body)
    if ending and ending != period.ending:
        end = NewAssignment(
            external_user=ending.external_user,
            organization_id=None,
            valid_from=ending.valid_from,
        )
        service.assign(sidecar.summaries, [end])


def _period(sidecar: RunningSidecar, assignment_id: int) -> AssignmentPeriod:
    held = known_assignment(sidecar.summaries.organizations.directory(), assignment_id)
    row = sorted(_of_user(sidecar, held.external_user), key=lambda each: each.valid_from)
    place = row.index(held)
    return AssignmentPeriod(
        held=held,
        before=row[place - 1] if place else None,
        after=row[place + 1] if place + 1 < len(row) else None,
    )


def _of_user(sidecar: RunningSidecar, user: str) -> list[Assignment]:
    every = sidecar.summaries.organizations.directory().assignments
    return [each for each in every if each.external_user == user]


def _day(assignment: Assignment, zone: str) -> date:
    return local_day(assignment.valid_from, zone)


def _preview(
    reports: ReportCache,
    sidecar: RunningSidecar,
    before: Sequence[Assignment],
    after: Sequence[Assignment],
) -> list[str]:
    """Return sentences: which days, events and cost move from which organization to which."""
    changed = set(before) ^ set(after)
    if not changed:
        return ["Nothing changes."]
    zone, directory = sidecar.settings.usage_timezone, sidecar.summaries.organizations.directory()
    start = local_day(min(each.valid_from for each in changed), zone)
    wanted = UsageFilter(start=start, end=today_of(sidecar) + ONE_DAY)
    then, now = (
        Directory(directory.organizations, (), assignments, directory.defaults)
        for assignments in (before, after)
    )
    moved: dict[_Move, list[tuple[date, Amounts]]] = defaultdict(list)
    for user in sorted({each.external_user for each in changed}):
        for line in reports.usage(replace(wanted, external_user=user), ("day",)):
            day = date.fromisoformat(line.group["day"])
            move = _move(then, now, user, day_bounds(day, zone))
            if move is not None:
                moved[move].append((day, line.amounts))
    if not moved:
        return ["Nothing that was booked so far moves."]
    sentences = [_sentence(directory, *move, moved[move]) for move in sorted(moved)]
    final = "Their days are projected again; final days that change are in the corrections."
    return [*sentences, final]


def _organization_name(directory: Directory, organization_id: str | None) -> str:
    return directory.organization(organization_id).name if organization_id else _BY_HOST


def _move(
    before: Directory, after: Directory, user: str, bounds: tuple[datetime, datetime]
) -> _Move | None:
    """Return from where to where a user's day moves, as a whole or in part; None if it stays."""
    start, end = bounds
    for instant in (start, end - _INSTANT):
        source = before.organization_of(user, "", instant)
        target = after.organization_of(user, "", instant)
        if source != target:
            return source, target
    return None


def _sentence(
    directory: Directory, source: str, target: str, moved: Sequence[tuple[date, Amounts]]
) -> str:
    total, days = sum((amounts for _, amounts in moved), Amounts()), {day for day, _ in moved}
    return (
        f"{total.events:,} events on {len(days):,} days, at a cost of "
        f"{format_usd(from_pico(total.raw_pico_usd))} USD, go from "
        f"{_organization_name(directory, source)} to {_organization_name(directory, target)}."
    )
