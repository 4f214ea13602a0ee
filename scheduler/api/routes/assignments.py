"""Routes: who belongs to which organization, since when; a correction reaches into the past."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from scheduler.api.deps import SidecarDep
from scheduler.services import assignments as service
from scheduler.services.assignments import AssignmentChange, NamedAssignment, NewAssignment
from scheduler.services.inputs import LabelText

router = APIRouter(prefix="/assignments", tags=["organizations"])

AssignmentId = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("")
def list_assignments(
    sidecar: SidecarDep, external_user: Annotated[LabelText | None, Query()] = None
) -> list[NamedAssignment]:
    """All assignments, or those of one user, in the order of users and time."""
    return service.list_assignments(sidecar.summaries, external_user)


@router.post("", status_code=201)
def assign(body: NewAssignment, sidecar: SidecarDep) -> NamedAssignment:
    """Put a user into an organization, for the past as well."""
    [assigned] = service.assign(sidecar.summaries, [body])
    return assigned


@router.put("/{assignment_id}")
def correct(
    assignment_id: AssignmentId, body: AssignmentChange, sidecar: SidecarDep
) -> NamedAssignment:
    """Correct an assignment that was wrong."""
    return service.correct(sidecar.summaries, assignment_id, body)


@router.delete("/{assignment_id}", status_code=204)
def remove(assignment_id: AssignmentId, sidecar: SidecarDep) -> Response:
    """Take an assignment back, as if it had never been."""
    service.remove(sidecar.summaries, assignment_id)
    return Response(status_code=204)
