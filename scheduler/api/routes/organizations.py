"""Routes: organizations, their dated markup rates and the OpenRouter keys that bill them."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import StringConstraints

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import PathLabel
from scheduler.services import organizations as service
from scheduler.services.organizations import (
    NewOrganization,
    NewRate,
    OrganizationChange,
    OrganizationDetails,
)

router = APIRouter(prefix="/organizations", tags=["organizations"])

OrganizationId = Annotated[PathLabel, Path(description="client_org_id")]
KeyHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]


@router.get("")
def list_organizations(sidecar: SidecarDep) -> list[OrganizationDetails]:
    """All organizations."""
    return service.list_organizations(sidecar.summaries)


@router.post("", status_code=201)
def add_organization(body: NewOrganization, sidecar: SidecarDep) -> OrganizationDetails:
    """Add an organization."""
    service.add_organization(sidecar.summaries, sidecar.settings, body)
    return get_organization(body.organization_id, sidecar)


@router.get("/{organization_id}")
def get_organization(organization_id: OrganizationId, sidecar: SidecarDep) -> OrganizationDetails:
    """One organization."""
    return service.organization_details(sidecar.summaries, organization_id)


@router.patch("/{organization_id}")
def change_organization(
    organization_id: OrganizationId, body: OrganizationChange, sidecar: SidecarDep
) -> OrganizationDetails:
    """Change an organization; another zone or base of the markup projects its days again."""
    service.change_organization(sidecar.summaries, organization_id, body)
    return get_organization(organization_id, sidecar)


@router.put("/{organization_id}/rates")
def set_rate(
    organization_id: OrganizationId, body: NewRate, sidecar: SidecarDep
) -> OrganizationDetails:
    """Set the markup from a day on; closed days that it touches are corrected and logged."""
    service.set_rate(sidecar.summaries, organization_id, body)
    return get_organization(organization_id, sidecar)


@router.put("/{organization_id}/api-keys/{api_key_hash}", status_code=204)
def enter_key(
    organization_id: OrganizationId, api_key_hash: KeyHash, sidecar: SidecarDep
) -> Response:
    """Let webhook bodies with this key bill the organization.

    The hash is the first 8 hex digits of the key's sha256: `printf %s KEY | sha256sum`.
    """
    service.enter_key(sidecar.summaries, organization_id, api_key_hash)
    return Response(status_code=204)


@router.delete("/{organization_id}/api-keys/{api_key_hash}", status_code=204)
def remove_key(
    organization_id: OrganizationId, api_key_hash: KeyHash, sidecar: SidecarDep
) -> Response:
    """Take a key from the organization; what it has billed stays."""
    service.remove_key(sidecar.summaries, organization_id, api_key_hash)
    return Response(status_code=204)
