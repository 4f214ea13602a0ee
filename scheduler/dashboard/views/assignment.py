"""Page: one assignment, to be corrected: whose, to whom, from which day, up to which day."""

from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.api.errors import ApiError
from scheduler.dashboard.forms import Confirmed, Text, confirm, day_of, first_instant, redirect
from scheduler.dashboard.pages import render
from scheduler.dashboard.report_cache import ReportCacheDep
from scheduler.dashboard.views.moves import AssignmentPreview, preview_sentences
from scheduler.process.running import RunningSidecar
from scheduler.services import assignments as service
from scheduler.services.assignments import AssignmentChange, NewAssignment, known_assignment
from shared.core.days import ONE_DAY, local_day
from shared.projection.organization import Assignment

router = APIRouter()

_LIST = "/ui/assignments"
AssignmentId = Annotated[int, Query(ge=1, le=2**31 - 1)]


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
        """What puts the user into another organization afterwards."""
        return None if self.ending else self.after

    def first_day(self, zone: str) -> str:
        """Return its first day, nothing when it holds from ever."""
        return "" if self.held.valid_from.year == 1970 else str(_day(self.held, zone))

    def last_day(self, zone: str) -> str:
        """Return its last day, nothing while no other assignment follows."""
        return str(_day(self.after, zone) - ONE_DAY) if self.after else ""


@router.get("/assignment")
def assignment(request: Request, sidecar: SidecarDep, assignment_id: AssignmentId) -> Response:
    """Show an assignment and a form that corrects it."""
    period, zone = _period(sidecar, assignment_id), sidecar.settings.usage_timezone
    directory = sidecar.summaries.directory()
    values = {
        "period": period,
        "first_day": period.first_day(zone),
        "last_day": period.last_day(zone),
        "names": sidecar.summaries.user_names(),
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
    assignment_id: Annotated[int, Form(ge=1, le=2**31 - 1)],
    organization_id: Text = "",
    first_day: Text = "",
    last_day: Text = "",
    confirmed: Confirmed = False,
) -> Response:
    """Correct an assignment, after saying what moves with it."""
    period = _period(sidecar, assignment_id)
    wanted, ending = _wanted(sidecar, period, organization_id, first_day, last_day)
    if not confirmed:
        known = _of_user(sidecar, period.held.external_user)
        kept = [each for each in known if each not in (period.held, period.ending)]
        after = [*kept, wanted, *([ending] if ending else [])]
        sentences = preview_sentences(reports, sidecar, AssignmentPreview(known, after))
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


def _wanted(
    sidecar: RunningSidecar,
    period: AssignmentPeriod,
    organization_id: str,
    first_day: str,
    last_day: str,
) -> tuple[Assignment, Assignment | None]:
    """Return the assignment as it shall be, and its ending if it shall have one of its own.

    A day that was not changed keeps its instant. Raises ApiError for days that cannot be.
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
        raise _no_day("the last day lies before the first")
    if period.before and wanted.valid_from <= period.before.valid_from:
        raise _no_day(f"the assignment before this one begins on {_day(period.before, zone)}")
    if period.successor and last.valid_from >= period.successor.valid_from:
        raise _no_day(f"the next assignment begins on {_day(period.successor, zone)}")


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
    """Return an assignment with the one after it. Raises NotKnown."""
    held = known_assignment(sidecar.summaries.directory(), assignment_id)
    row = sorted(_of_user(sidecar, held.external_user), key=lambda each: each.valid_from)
    place = row.index(held)
    return AssignmentPeriod(
        held=held,
        before=row[place - 1] if place else None,
        after=row[place + 1] if place + 1 < len(row) else None,
    )


def _of_user(sidecar: RunningSidecar, user: str) -> list[Assignment]:
    every = sidecar.summaries.directory().assignments
    return [each for each in every if each.external_user == user]


def _day(assignment: Assignment, zone: str) -> date:
    return local_day(assignment.valid_from, zone)


def _no_day(sentence: str) -> ApiError:
    return ApiError(422, "invalid_value", sentence)
