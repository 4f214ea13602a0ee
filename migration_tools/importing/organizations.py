"""Newcomers: organizations, rates and people that come along with an import."""

from collections.abc import Iterable
from datetime import date

from migration_tools.backups.manifest import ImportRecord, Move
from migration_tools.source import Directory, Newcomer, Remark
from shared.core.days import day_start
from shared.projection.organization import ALWAYS, Assignment
from shared.projection.organization import Directory as KnownDirectory
from shared.projection.port import Summaries


def unknown_newcomers(found: Directory, known: KnownDirectory) -> list[str]:
    """Return the organizations that an import would add."""
    ids = [newcomer.organization.organization_id for newcomer in found.newcomers]
    return [
        organization_id for organization_id in ids if organization_id not in known.organizations
    ]


def unknown_moves(found: Directory, known: KnownDirectory) -> list[Move]:
    """Return the assignments that an import would make: of people whom nobody has assigned yet."""
    assigned = {assignment.external_user for assignment in known.assignments}
    zones = {
        newcomer.organization.organization_id: newcomer.organization.time_zone
        for newcomer in found.newcomers
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


def differing_newcomers(found: Directory, known: KnownDirectory) -> Iterable[Remark]:
    """Say where an organization that is there already is described otherwise; it stays as it is."""
    for newcomer in found.newcomers:
        theirs = newcomer.organization
        ours = known.organizations.get(theirs.organization_id)
        if ours is None:
            continue
        if ours.time_zone != theirs.time_zone:
            detail = f"its zone is {ours.time_zone} here and {theirs.time_zone} in the source"
            yield _remark(theirs.organization_id, "zone", detail)
        for since, rate_ppm in newcomer.rates:
            here = known.rate_ppm(theirs.organization_id, since)
            if here != rate_ppm:
                detail = f"its rate from {since} is {here} ppm here and {rate_ppm} in the source"
                yield _remark(theirs.organization_id, "rate", detail)


def bring(summaries: Summaries, found: Directory, record: ImportRecord) -> None:
    """Add what the record of an import says it adds; what is there already is left alone."""
    known = summaries.directory()
    rates = {(rate.organization_id, rate.valid_from) for rate in known.rates}
    for newcomer in found.newcomers:
        if newcomer.organization.organization_id in record.organizations:
            _add(summaries, newcomer, known, rates)
    made = {_key(assignment) for assignment in known.assignments}
    for move in record.moves:
        if (move.external_user, move.organization_id) not in made:
            summaries.assign_user(move.external_user, move.organization_id, move.valid_from)


def take_back(summaries: Summaries, record: ImportRecord) -> list[str]:
    """Remove the assignments that an import made; return the users whom somebody moved since."""
    changed = []
    for move in record.moves:
        wanted = (move.external_user, move.organization_id, move.valid_from)
        assignments = summaries.directory().assignments
        own = [each for each in assignments if each.external_user == move.external_user]
        for assignment in own:
            if (*_key(assignment), assignment.valid_from) == wanted:
                summaries.remove_assignment(assignment.assignment_id)
            else:
                changed.append(move.external_user)
    return changed


def _add(
    summaries: Summaries,
    newcomer: Newcomer,
    known: KnownDirectory,
    rates: set[tuple[str, date]],
) -> None:
    organization_id = newcomer.organization.organization_id
    (_, first), *later = newcomer.rates
    if organization_id not in known.organizations:
        summaries.add_organization(newcomer.organization, first)
    elif (organization_id, ALWAYS) not in rates:
        summaries.set_rate(organization_id, ALWAYS, first)
    for since, rate_ppm in later:
        if (organization_id, since) not in rates:
            summaries.set_rate(organization_id, since, rate_ppm)


def _key(assignment: Assignment) -> tuple[str, str | None]:
    return assignment.external_user, assignment.organization_id


def _remark(organization_id: str, what: str, detail: str) -> Remark:
    return Remark(organization_id=organization_id, local_date=None, what=what, detail=detail)
