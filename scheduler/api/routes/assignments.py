"""Routes: who belongs to which organization, since when; a correction reaches into the past."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from scheduler.api.deps import SidecarDep
from scheduler.api.errors import ApiError, not_found
from scheduler.api.fields import Body, Instant, LabelText
from scheduler.api.routes.organizations import known_organization
from scheduler.process.running import RunningSidecar
from shared.core.time import EPOCH
from shared.projection.organization import Assignment

router = APIRouter(prefix="/assignments", tags=["organizations"])

AssignmentId = Annotated[int, Path(ge=1, le=2**31 - 1)]


class NewAssignment(Body):
    """Where a user belongs from an instant on; whole seconds count."""

    external_user: LabelText
    organization_id: LabelText | None = Field(
        description="null gives the decision back to the host's own configuration"
    )
    valid_from: Instant = Field(default=EPOCH, description="default: from ever")


class AssignmentChange(Body):
    """What an assignment should have said; days that it touches are projected again."""

    organization_id: LabelText | None
    valid_from: Instant


class AssignmentBody(BaseModel):
    """An assignment, in force until the next one of the same user."""

    assignment_id: int
    external_user: str
    user_name: str | None
    organization_id: str | None
    valid_from: datetime


@router.get("")
def list_assignments(
    sidecar: SidecarDep, external_user: Annotated[LabelText | None, Query()] = None
) -> list[AssignmentBody]:
    """All assignments, or those of one user, in the order of users and time."""
    names = sidecar.summaries.user_names()
    found = [
        each
        for each in sidecar.summaries.directory().assignments
        if external_user in (None, each.external_user)
    ]
    found.sort(key=lambda each: (each.external_user, each.valid_from))
    return [AssignmentBody(**vars(e), user_name=names.get(e.external_user)) for e in found]


@router.post("", status_code=201)
def assign(body: NewAssignment, sidecar: SidecarDep) -> AssignmentBody:
    """Put a user into an organization, for the past as well."""
    _require_active(body.organization_id, sidecar)
    assignment_id = sidecar.summaries.assign_user(
        body.external_user, body.organization_id, body.valid_from
    )
    return _body(assignment_id, sidecar)


@router.put("/{assignment_id}")
def correct(
    assignment_id: AssignmentId, body: AssignmentChange, sidecar: SidecarDep
) -> AssignmentBody:
    """Correct an assignment that was wrong."""
    _known(assignment_id, sidecar)
    _require_active(body.organization_id, sidecar)
    sidecar.summaries.correct_assignment(assignment_id, body.organization_id, body.valid_from)
    return _body(assignment_id, sidecar)


@router.delete("/{assignment_id}", status_code=204)
def remove(assignment_id: AssignmentId, sidecar: SidecarDep) -> Response:
    """Take an assignment back, as if it had never been."""
    _known(assignment_id, sidecar)
    sidecar.summaries.remove_assignment(assignment_id)
    return Response(status_code=204)


def _known(assignment_id: int, sidecar: RunningSidecar) -> Assignment:
    for each in sidecar.summaries.directory().assignments:
        if each.assignment_id == assignment_id:
            return each
    raise not_found("assignment", assignment_id)


def _body(assignment_id: int, sidecar: RunningSidecar) -> AssignmentBody:
    found = _known(assignment_id, sidecar)
    names = sidecar.summaries.user_names()
    return AssignmentBody(**vars(found), user_name=names.get(found.external_user))


def _require_active(organization_id: str | None, sidecar: RunningSidecar) -> None:
    if organization_id is None:
        return
    if not known_organization(organization_id, sidecar).is_active:
        raise ApiError(
            409, "inactive", f"{organization_id} is inactive; activate it first", "organization_id"
        )
