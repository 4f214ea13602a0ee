"""The organizations, rates and users of a source: what an import adds, and takes out again."""

from collections.abc import Iterable
from datetime import date

from migration_tools.backups.manifest import ImportRecord, Move
from migration_tools.source import ImportedOrganization, Remark, SourceDirectory
from shared.core.days import day_start
from shared.projection.organization import ALWAYS, Assignment, Directory
from shared.summary_db.database import SummaryDatabase


def new_organizations(found: SourceDirectory, known: Directory) -> list[str]:
    """Return the ids of the organizations that an import would add."""
    ids = [imported.organization.organization_id for imported in found.organizations]
    return [each for each in ids if each not in known.organizations]


def new_assignments(found: SourceDirectory, known: Directory) -> list[Move]:
    """Return the assignments that an import would make: those of users without any assignment."""
    assigned = {assignment.external_user for assignment in known.assignments}
    zones = {
        imported.organization.organization_id: imported.organization.time_zone
        for imported in found.organizations
    }
    return [
        Move(
            external_user=member.external_user,
            organization_id=member.organization_id,
            valid_from=day_start(member.first_day, zones[member.organization_id]),
        )
        for member in found.memberships
        if member.external_user not in assigned
    ]


def differing_organizations(found: SourceDirectory, known: Directory) -> Iterable[Remark]:
    """Return how organizations of the source differ from existing ones, which stay unchanged."""
    for imported in found.organizations:
        theirs = imported.organization
        ours = known.organizations.get(theirs.organization_id)
        if ours is None:
            continue
        if ours.time_zone != theirs.time_zone:
            detail = f"its zone is {ours.time_zone} here and {theirs.time_zone} in the source"
            yield Remark(organization_id=theirs.organization_id, what="zone", detail=detail)
        for since, rate_ppm in imported.rates:
            here = known.rate_ppm(theirs.organization_id, since)
            if here != rate_ppm:
                detail = f"its rate from {since} is {here} ppm here and {rate_ppm} in the source"
                yield Remark(organization_id=theirs.organization_id, what="rate", detail=detail)


def apply_organizations(
    summaries: SummaryDatabase, found: SourceDirectory, record: ImportRecord
) -> None:
    """Add what an import has recorded that it adds; existing organizations stay unchanged."""
    known = summaries.organizations.directory()
    rates = {(rate.organization_id, rate.valid_from) for rate in known.rates}
    for imported in found.organizations:
        if imported.organization.organization_id in record.organizations:
            _add(summaries, imported, known, rates)
    made = {_key(assignment) for assignment in known.assignments}
    for move in record.moves:
        if (move.external_user, move.organization_id) not in made:
            summaries.users.assign(move.external_user, move.organization_id, move.valid_from)


def revert_assignments(summaries: SummaryDatabase, record: ImportRecord) -> list[str]:
    """Remove the assignments that an import made; return the users who were moved since."""
    changed = []
    assignments = summaries.organizations.directory().assignments
    for move in record.moves:
        wanted = (move.external_user, move.organization_id, move.valid_from)
        own = [each for each in assignments if each.external_user == move.external_user]
        for assignment in own:
            if (*_key(assignment), assignment.valid_from) == wanted:
                summaries.users.remove_assignment(assignment.assignment_id)
            else:
                changed.append(move.external_user)
    return changed


def _add(
    summaries: SummaryDatabase,
    imported: ImportedOrganization,
    known: Directory,
    rates: set[tuple[str, date]],
) -> None:
    organization_id = imported.organization.organization_id
    (_, first), *later = imported.rates
    if organization_id not in known.organizations:
        summaries.organizations.add(imported.organization, first)
    elif (organization_id, ALWAYS) not in rates:
        summaries.organizations.set_rate(organization_id, ALWAYS, first)
    for since, rate_ppm in later:
        if (organization_id, since) not in rates:
            summaries.organizations.set_rate(organization_id, since, rate_ppm)


def _key(assignment: Assignment) -> tuple[str, str | None]:
    return assignment.external_user, assignment.organization_id
