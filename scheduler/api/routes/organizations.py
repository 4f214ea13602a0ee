"""Routes: organizations, their dated markup rates and the OpenRouter keys that bill them."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, StrictBool, StringConstraints

from scheduler.api.deps import SidecarDep
from scheduler.api.errors import ApiError, not_found
from scheduler.api.fields import Body, Currency, Day, LabelText, Multiplier, PathLabel, ZoneName
from scheduler.process.running import RunningSidecar
from shared.core.money import PPM, format_usd, rate_ppm
from shared.projection.organization import ALWAYS, Directory, Organization

router = APIRouter(prefix="/organizations", tags=["organizations"])

OrganizationId = Annotated[PathLabel, Path(description="client_org_id")]
KeyHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]


class NewOrganization(Body):
    """An organization to add; what is left out comes from the settings."""

    organization_id: LabelText
    name: LabelText | None = None
    time_zone: ZoneName | None = None
    currency: Currency | None = None
    fee_only: StrictBool = False
    is_active: StrictBool = True
    markup: Multiplier | None = None


class OrganizationChange(Body):
    """What to change; what is left out stays."""

    name: LabelText | None = None
    time_zone: ZoneName | None = None
    currency: Currency | None = None
    fee_only: StrictBool | None = None
    is_active: StrictBool | None = None


class RateBody(BaseModel):
    """What an organization pays per dollar, from a local day on."""

    valid_from: date
    markup: str


class NewRate(Body):
    """A rate from a local day on, until the next one; without a day for all days."""

    markup: Multiplier
    valid_from: Day = ALWAYS


class OrganizationBody(BaseModel):
    """An organization as it stands."""

    organization_id: str
    name: str
    time_zone: str
    currency: str
    fee_only: bool
    is_active: bool
    rates: list[RateBody]
    api_key_hashes: list[str]


@router.get("")
def list_organizations(sidecar: SidecarDep) -> list[OrganizationBody]:
    """All organizations."""
    directory, keys = sidecar.summaries.directory(), sidecar.books.organization_keys()
    known = sorted(directory.organizations.values(), key=lambda each: each.organization_id)
    return [_body(each, directory, keys) for each in known]


@router.post("", status_code=201)
def add_organization(body: NewOrganization, sidecar: SidecarDep) -> OrganizationBody:
    """Add an organization."""
    settings = sidecar.settings
    if body.organization_id in sidecar.summaries.directory().organizations:
        raise ApiError(409, "exists", f"{body.organization_id} exists already", "organization_id")
    organization = Organization(
        organization_id=body.organization_id,
        name=body.name or body.organization_id,
        time_zone=body.time_zone or settings.usage_timezone,
        currency=body.currency or settings.usage_currency,
        fee_only=body.fee_only,
        is_active=body.is_active,
    )
    rate = rate_ppm(body.markup) if body.markup is not None else None
    sidecar.summaries.add_organization(organization, rate)
    return get_organization(body.organization_id, sidecar)


@router.get("/{organization_id}")
def get_organization(organization_id: OrganizationId, sidecar: SidecarDep) -> OrganizationBody:
    """One organization."""
    directory = sidecar.summaries.directory()
    organization = known_organization(organization_id, sidecar)
    return _body(organization, directory, sidecar.books.organization_keys())


@router.patch("/{organization_id}")
def change_organization(
    organization_id: OrganizationId, body: OrganizationChange, sidecar: SidecarDep
) -> OrganizationBody:
    """Change an organization; another zone or base of the markup projects its days again."""
    organization = known_organization(organization_id, sidecar)
    wanted = body.model_dump(exclude_none=True)
    sidecar.summaries.change_organization(replace(organization, **wanted))
    return get_organization(organization_id, sidecar)


@router.put("/{organization_id}/rates")
def set_rate(
    organization_id: OrganizationId, body: NewRate, sidecar: SidecarDep
) -> OrganizationBody:
    """Set the markup from a day on; closed days that it touches are corrected and logged."""
    known_organization(organization_id, sidecar)
    sidecar.summaries.set_rate(organization_id, body.valid_from, rate_ppm(body.markup))
    return get_organization(organization_id, sidecar)


@router.put("/{organization_id}/api-keys/{api_key_hash}", status_code=204)
def enter_key(
    organization_id: OrganizationId, api_key_hash: KeyHash, sidecar: SidecarDep
) -> Response:
    """Let webhook bodies with this key bill the organization.

    The hash is the first 8 hex digits of the key's sha256: `printf %s KEY | sha256sum`.
    """
    known_organization(organization_id, sidecar)
    sidecar.books.enter_key(organization_id, api_key_hash)
    return Response(status_code=204)


@router.delete("/{organization_id}/api-keys/{api_key_hash}", status_code=204)
def remove_key(
    organization_id: OrganizationId, api_key_hash: KeyHash, sidecar: SidecarDep
) -> Response:
    """Take a key from the organization; what it has billed stays."""
    if not sidecar.books.remove_key(organization_id, api_key_hash):
        raise not_found("key", api_key_hash)
    return Response(status_code=204)


def known_organization(organization_id: str, sidecar: RunningSidecar) -> Organization:
    """Return an organization by its id, or answer 404."""
    found = sidecar.summaries.directory().organizations.get(organization_id)
    if found is None:
        raise not_found("organization", organization_id)
    return found


def _body(
    organization: Organization, directory: Directory, keys: dict[str, str]
) -> OrganizationBody:
    organization_id = organization.organization_id
    rates = [
        RateBody(valid_from=rate.valid_from, markup=format_usd(Decimal(rate.rate_ppm) / PPM))
        for rate in directory.rates
        if rate.organization_id == organization_id
    ]
    return OrganizationBody(
        **vars(organization),
        rates=sorted(rates, key=lambda rate: rate.valid_from),
        api_key_hashes=[hashed for hashed, owner in keys.items() if owner == organization_id],
    )
