"""Page: who belongs to which organization since when; those without one come first."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.api.errors import ApiError
from scheduler.dashboard.filters import today_of
from scheduler.dashboard.forms import Confirmed, Text, body_of, confirm, first_instant, redirect
from scheduler.dashboard.pages import render
from scheduler.dashboard.report_cache import ReportCache, ReportCacheDep
from scheduler.dashboard.spans import RECENT
from scheduler.dashboard.views.moves import AssignmentPreview, organization_name, preview_sentences
from scheduler.process.running import RunningSidecar
from scheduler.services import assignments as service
from scheduler.services.assignments import NewAssignment
from scheduler.services.errors import NotKnown
from shared.core.event import UNASSIGNED
from shared.projection.organization import Assignment
from shared.projection.summary import Amounts
from shared.summary_db.port import UsageFilter

router = APIRouter()

_PAGE = "/ui/assignments"


@router.get("/assignments")
def assignments(request: Request, sidecar: SidecarDep, reports: ReportCacheDep) -> Response:
    """Show users nobody pays for first, then everybody's assignments."""
    seen = _seen(reports, today_of(sidecar) - RECENT, today_of(sidecar))
    directory = sidecar.summaries.directory()
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
        "names": sidecar.summaries.user_names(),
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
    """Put users into an organization, after saying what moves with them."""
    users = list(dict.fromkeys(each for each in (*user, another.strip()) if each))
    if not users:
        raise ApiError(422, "invalid_value", "choose at least one user")
    since = first_instant(valid_from, sidecar.settings.usage_timezone)
    bodies = [
        body_of(
            NewAssignment,
            external_user=each,
            organization_id=organization_id,
            valid_from=since,
        )
        for each in users
    ]
    if not confirmed:
        whom = organization_name(sidecar.summaries.directory(), organization_id)
        since_when = f"from {valid_from} on" if valid_from else "for all their days"
        sentences = [
            f"{len(users)} users will belong to {whom}, {since_when}.",
            *preview_sentences(reports, sidecar, _with_new(sidecar, bodies)),
        ]
        fields = {"user": users, "organization_id": organization_id, "valid_from": valid_from}
        return confirm(request, "Assign users", sentences, fields, _PAGE)
    service.assign(sidecar.summaries, bodies)
    return redirect(_PAGE)


@router.post("/assignments/remove")
def remove(
    request: Request,
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    assignment_id: Annotated[int, Form(ge=1, le=2**31 - 1)],
    confirmed: Confirmed = False,
) -> Response:
    """Take an assignment back, after saying what moves with it."""
    found = [
        each
        for each in service.list_assignments(sidecar.summaries)
        if each.assignment_id == assignment_id
    ]
    if not found:
        raise NotKnown("assignment", assignment_id)
    if not confirmed:
        [taken] = found
        name = organization_name(sidecar.summaries.directory(), taken.organization_id)
        sentences = [
            f"{taken.user_name or taken.external_user} will belong where they did before {name}.",
            *preview_sentences(reports, sidecar, _without(sidecar, assignment_id)),
        ]
        fields = {"assignment_id": str(assignment_id)}
        return confirm(request, "Take an assignment back", sentences, fields, _PAGE)
    service.remove(sidecar.summaries, assignment_id)
    return redirect(_PAGE)


def _seen(reports: ReportCache, start: date, end: date) -> dict[str, dict[str, Amounts]]:
    """Return what users used in these days, by the organization it is billed to."""
    wanted = UsageFilter(start=start, end=end)
    seen: dict[str, dict[str, Amounts]] = {}
    for line in reports.usage(wanted, ("external_user", "organization_id")):
        user, organization = line.group["external_user"], line.group["organization_id"]
        seen.setdefault(user, {})[organization] = line.amounts
    return seen


def _with_new(sidecar: RunningSidecar, bodies: Sequence[NewAssignment]) -> AssignmentPreview:
    """Return the plan of new assignments; each takes the place of one of the same second."""
    known = list(sidecar.summaries.directory().assignments)
    new = [Assignment(assignment_id=0, **body.model_dump()) for body in bodies]
    taken = {(each.external_user, each.valid_from) for each in new}
    kept = [each for each in known if (each.external_user, each.valid_from) not in taken]
    return AssignmentPreview(known, [*kept, *new])


def _without(sidecar: RunningSidecar, assignment_id: int) -> AssignmentPreview:
    known = list(sidecar.summaries.directory().assignments)
    return AssignmentPreview(known, [each for each in known if each.assignment_id != assignment_id])
