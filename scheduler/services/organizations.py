"""Organizations: add, change, set dated rates, and let OpenRouter keys bill them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from pydantic import StrictBool

from scheduler.services.errors import NotKnown, Refused
from scheduler.services.inputs import Currency, Day, Input, LabelText, Multiplier, ZoneName
from shared.core.money import PPM, format_usd, rate_ppm
from shared.projection.organization import ALWAYS, Directory, Organization
from shared.settings import Settings
from shared.summary_db.database import SummaryDatabase


class NewOrganization(Input):
    """An organization to add; what is left out comes from the settings."""

    organization_id: LabelText
    name: LabelText | None = None
    time_zone: ZoneName | None = None
    currency: Currency | None = None
    fee_only: StrictBool = False
    is_active: StrictBool = True
    markup: Multiplier | None = None


class OrganizationChange(Input):
    """What to change; what is left out stays."""

    name: LabelText | None = None
    time_zone: ZoneName | None = None
    currency: Currency | None = None
    fee_only: StrictBool | None = None
    is_active: StrictBool | None = None


class NewRate(Input):
    """A rate from a local day on, until the next one; without a day for all days."""

    markup: Multiplier
    valid_from: Day = ALWAYS


@dataclass(frozen=True, kw_only=True)
class DatedMarkup:
    """What an organization pays per dollar, from a local day on."""

    valid_from: date
    markup: str


@dataclass(frozen=True, kw_only=True)
class OrganizationDetails:
    """An organization with its rates in the order of their days, and its keys."""

    organization_id: str
    name: str
    time_zone: str
    currency: str
    fee_only: bool
    is_active: bool
    rates: list[DatedMarkup]
    api_key_hashes: list[str]


def list_organizations(summaries: SummaryDatabase) -> list[OrganizationDetails]:
    """Return all organizations in the order of their ids."""
    directory, keys = summaries.organizations.directory(), summaries.keys.organizations()
    known = sorted(directory.organizations.values(), key=lambda each: each.organization_id)
    return [_details(each, directory, keys) for each in known]


def organization_details(summaries: SummaryDatabase, organization_id: str) -> OrganizationDetails:
    """Return one organization. Raises NotKnown."""
    directory = summaries.organizations.directory()
    organization = known_organization(directory, organization_id)
    return _details(organization, directory, summaries.keys.organizations())


def known_organization(directory: Directory, organization_id: str) -> Organization:
    """Return an organization by its id. Raises NotKnown."""
    found = directory.organizations.get(organization_id)
    if found is None:
        raise NotKnown("organization", organization_id)
    return found


def add_organization(summaries: SummaryDatabase, settings: Settings, new: NewOrganization) -> None:
    """Add an organization. Raises Refused when it exists already."""
    if new.organization_id in summaries.organizations.directory().organizations:
        raise Refused("exists", f"{new.organization_id} exists already", "organization_id")
    organization = Organization(
        organization_id=new.organization_id,
        name=new.name or new.organization_id,
        time_zone=new.time_zone or settings.usage_timezone,
        currency=new.currency or settings.usage_currency,
        fee_only=new.fee_only,
        is_active=new.is_active,
    )
    summaries.organizations.add(organization, None if new.markup is None else rate_ppm(new.markup))


def change_organization(
    summaries: SummaryDatabase, organization_id: str, change: OrganizationChange
) -> None:
    """Change an organization; another zone or base of the markup projects its days again."""
    organization = known_organization(summaries.organizations.directory(), organization_id)
    summaries.organizations.change(replace(organization, **change.model_dump(exclude_none=True)))


def set_rate(summaries: SummaryDatabase, organization_id: str, new: NewRate) -> None:
    """Set the markup from a day on; closed days that it touches are corrected and logged."""
    known_organization(summaries.organizations.directory(), organization_id)
    summaries.organizations.set_rate(organization_id, new.valid_from, rate_ppm(new.markup))


def enter_key(summaries: SummaryDatabase, organization_id: str, api_key_hash: str) -> None:
    """Let events with this key bill the organization."""
    known_organization(summaries.organizations.directory(), organization_id)
    summaries.keys.enter(organization_id, api_key_hash)


def remove_key(summaries: SummaryDatabase, organization_id: str, api_key_hash: str) -> None:
    """Take a key from the organization; what it has billed stays."""
    if not summaries.keys.remove(organization_id, api_key_hash):
        raise NotKnown("key", api_key_hash)


def format_markup(ppm: int) -> str:
    """Write a rate in parts per million as a multiplier, such as 1.3."""
    return format_usd(Decimal(ppm) / PPM)


def _details(
    organization: Organization, directory: Directory, keys: Mapping[str, str]
) -> OrganizationDetails:
    organization_id = organization.organization_id
    rates = [
        DatedMarkup(valid_from=rate.valid_from, markup=format_markup(rate.rate_ppm))
        for rate in directory.rates
        if rate.organization_id == organization_id
    ]
    return OrganizationDetails(
        **vars(organization),
        rates=sorted(rates, key=lambda rate: rate.valid_from),
        api_key_hashes=[hashed for hashed, owner in keys.items() if owner == organization_id],
    )
