"""Assignments: who belongs to which organization since when; also for the past."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field

from scheduler.services.errors import NotKnown, Refused
from scheduler.services.inputs import Input, Instant, LabelText
from scheduler.services.organizations import known_organization
from shared.core.time import EPOCH, whole_second
from shared.projection.organization import Assignment, Directory
from shared.summary_db.database import SummaryDatabase


class NewAssignment(Input):
    """Where a user belongs from an instant on; whole seconds count."""

    external_user: LabelText
    organization_id: LabelText | None = Field(
        description="null gives the decision back to the host's own configuration"
    )
    valid_from: Instant = Field(default=EPOCH, description="default: from ever")


class AssignmentChange(Input):
    """What an assignment should have said; days that it touches are projected again."""

    organization_id: LabelText | None
    valid_from: Instant


@dataclass(frozen=True, kw_only=True)
class NamedAssignment:
    """An assignment, in force until the next one of the same user, with the user's name."""

    assignment_id: int
    external_user: str
    user_name: str | None
    organization_id: str | None
    valid_from: datetime


def list_assignments(
    summaries: SummaryDatabase, external_user: str | None = None
) -> list[NamedAssignment]:
    """Return all assignments, or those of one user, in the order of users and time."""
    names = summaries.users.names()
    found = [
        each
        for each in summaries.organizations.directory().assignments
        if external_user in (None, each.external_user)
    ]
    found.sort(key=lambda each: (each.external_user, each.valid_from))
    return [NamedAssignment(**vars(e), user_name=names.get(e.external_user)) for e in found]


def assign(summaries: SummaryDatabase, new: Sequence[NewAssignment]) -> list[NamedAssignment]:
    """Put users into organizations, for the past as well; none if one organization is inactive."""
    directory, names = summaries.organizations.directory(), summaries.users.names()
    for organization_id in {each.organization_id for each in new}:
        _require_active(directory, organization_id)
    return [
        NamedAssignment(
            assignment_id=summaries.users.assign(
                each.external_user, each.organization_id, each.valid_from
            ),
            external_user=each.external_user,
            user_name=names.get(each.external_user),
            organization_id=each.organization_id,
            valid_from=whole_second(each.valid_from),
        )
        for each in new
    ]


def correct(
    summaries: SummaryDatabase, assignment_id: int, change: AssignmentChange
) -> NamedAssignment:
    """Correct an assignment that was wrong."""
    directory = summaries.organizations.directory()
    known = known_assignment(directory, assignment_id)
    _require_active(directory, change.organization_id)
    summaries.users.correct_assignment(assignment_id, change.organization_id, change.valid_from)
    return NamedAssignment(
        assignment_id=assignment_id,
        external_user=known.external_user,
        user_name=summaries.users.names().get(known.external_user),
        organization_id=change.organization_id,
        valid_from=whole_second(change.valid_from),
    )


def remove(summaries: SummaryDatabase, assignment_id: int) -> None:
    """Take an assignment back, as if it had never been."""
    known_assignment(summaries.organizations.directory(), assignment_id)
    summaries.users.remove_assignment(assignment_id)


def known_assignment(directory: Directory, assignment_id: int) -> Assignment:
    """Return an assignment by its id. Raises NotKnown."""
    for each in directory.assignments:
        if each.assignment_id == assignment_id:
            return each
    raise NotKnown("assignment", assignment_id)


def _require_active(directory: Directory, organization_id: str | None) -> None:
    if organization_id is None:
        return
    if not known_organization(directory, organization_id).is_active:
        raise Refused(
            "inactive", f"{organization_id} is inactive; activate it first", "organization_id"
        )
