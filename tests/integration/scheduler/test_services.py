"""What API, pages and commands share: one rule for all of them, one look at the directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.services.assignments import NewAssignment, assign, list_assignments
from scheduler.services.errors import NotKnown, Refused, Unusable
from scheduler.services.inputs import read_input
from scheduler.services.organizations import (
    NewOrganization,
    OrganizationChange,
    add_organization,
    change_organization,
)
from shared.summary_db.organizations import Organizations
from tests.support.builders import ALICE, BOB
from tests.support.sidecars import SidecarAtHand


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SidecarAtHand]:
    found = SidecarAtHand(tmp_path)
    for name in ("acme", "gone"):
        add_organization(
            found.sidecar.summaries, found.sidecar.settings, NewOrganization(organization_id=name)
        )
    change_organization(found.sidecar.summaries, "gone", OrganizationChange(is_active=False))
    yield found
    found.close()


def test_a_hundred_users_are_assigned_with_one_look_at_the_directory(
    desk: SidecarAtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    summaries, looks = desk.sidecar.summaries, []
    directory = Organizations.directory

    def counted(organizations: Organizations) -> object:
        looks.append(1)
        return directory(organizations)

    monkeypatch.setattr(Organizations, "directory", counted)
    users = [f"user-{number}" for number in range(100)]
    new = [NewAssignment(external_user=user, organization_id="acme") for user in users]
    assigned = assign(summaries, new)
    assert len(looks) == 1
    monkeypatch.undo()
    assert sorted(list_assignments(summaries), key=lambda each: each.assignment_id) == assigned


@pytest.mark.parametrize(("organization_id", "error"), [("gone", Refused), ("nowhere", NotKnown)])
def test_nobody_is_assigned_when_one_of_the_organizations_takes_no_users(
    desk: SidecarAtHand, organization_id: str, error: type[Refused]
) -> None:
    new = [
        NewAssignment(external_user=ALICE, organization_id="acme"),
        NewAssignment(external_user=BOB, organization_id=organization_id),
    ]
    with pytest.raises(error):
        assign(desk.sidecar.summaries, new)
    assert list_assignments(desk.sidecar.summaries) == []


def test_an_input_names_the_field_that_cannot_be_used() -> None:
    with pytest.raises(Unusable, match="time zone: String should match pattern") as refused:
        read_input(NewOrganization, organization_id="acme", time_zone="not a zone")
    assert refused.value.field == "time_zone"
