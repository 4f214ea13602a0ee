"""Pages: organizations, their terms and dated markups, and changing these."""

from dataclasses import replace
from datetime import date
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.dashboard.filters import today_of
from scheduler.dashboard.forms import Confirmed, Text, confirm, day_of, redirect
from scheduler.dashboard.pages import render
from scheduler.dashboard.report_cache import ReportCache, ReportCacheDep
from scheduler.process.running import RunningSidecar
from scheduler.services import organizations as service
from scheduler.services.inputs import LabelText, read_input
from scheduler.services.organizations import (
    NewOrganization,
    NewRate,
    OrganizationChange,
    format_markup,
    known_organization,
)
from shared.core.amounts import Amounts
from shared.core.days import ONE_DAY
from shared.core.money import apply_rate, format_usd, from_pico, rate_ppm
from shared.projection.organization import ALWAYS, Organization
from shared.summary_db.reports import UsageFilter

router = APIRouter()

_LIST = "/ui/organizations"


@router.get("/organizations")
def organizations(request: Request, sidecar: SidecarDep) -> Response:
    directory, today = sidecar.summaries.organizations.directory(), today_of(sidecar)
    found = service.list_organizations(sidecar.summaries)
    values = {
        "organizations": found,
        "markups": {
            each.organization_id: format_markup(directory.rate_ppm(each.organization_id, today))
            for each in found
        },
        "settings": sidecar.settings,
    }
    return render(request, "organizations.html", values)


@router.post("/organizations")
def add(
    sidecar: SidecarDep,
    organization_id: Text = "",
    name: Text = "",
    time_zone: Text = "",
    currency: Text = "",
    markup: Text = "",
) -> Response:
    body = read_input(
        NewOrganization,
        organization_id=organization_id,
        name=name,
        time_zone=time_zone,
        currency=currency,
        markup=markup,
    )
    service.add_organization(sidecar.summaries, sidecar.settings, body)
    return redirect(_address(organization_id))


@router.get("/organization")
def organization(
    request: Request, sidecar: SidecarDep, organization_id: Annotated[LabelText, Query()]
) -> Response:
    values = {
        "organization": service.organization_details(sidecar.summaries, organization_id),
        "today": today_of(sidecar),
        "always": ALWAYS,
    }
    return render(request, "organization.html", values)


@router.post("/organization")
def change(
    request: Request,
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    organization_id: Text = "",
    name: Text = "",
    time_zone: Text = "",
    currency: Text = "",
    fee_only: Text = "",
    is_active: Text = "",
    confirmed: Confirmed = False,
) -> Response:
    """Change an organization; another zone, currency or base of the markup needs confirmation."""
    known = known_organization(sidecar.summaries.organizations.directory(), organization_id)
    body = read_input(
        OrganizationChange,
        name=name,
        time_zone=time_zone,
        currency=currency,
        fee_only=bool(fee_only),
        is_active=bool(is_active),
    )
    wanted = replace(known, **body.model_dump(exclude_none=True))
    sentences = _change_of_terms(reports, sidecar, known, wanted)
    if sentences and not confirmed:
        fields = {
            "organization_id": organization_id,
            "name": name,
            "time_zone": time_zone,
            "currency": currency,
            "fee_only": fee_only,
            "is_active": is_active,
        }
        return confirm(
            request, f"Change {known.name}", sentences, fields, _address(organization_id)
        )
    service.change_organization(sidecar.summaries, organization_id, body)
    return redirect(_address(organization_id))


@router.post("/organization/rate")
def set_rate(
    request: Request,
    sidecar: SidecarDep,
    reports: ReportCacheDep,
    organization_id: Text = "",
    markup: Text = "",
    valid_from: Text = "",
    confirmed: Confirmed = False,
) -> Response:
    known = known_organization(sidecar.summaries.organizations.directory(), organization_id)
    start = day_of(valid_from) if valid_from else ALWAYS
    body = read_input(NewRate, markup=markup, valid_from=start)
    if not confirmed:
        sentences = _change_of_rate(reports, sidecar, organization_id, body)
        fields = {
            "organization_id": organization_id,
            "markup": markup,
            "valid_from": valid_from,
        }
        title = f"Set the markup of {known.name} to {markup}"
        return confirm(request, title, sentences, fields, _address(organization_id))
    service.set_rate(sidecar.summaries, organization_id, body)
    return redirect(_address(organization_id))


def _change_of_rate(
    reports: ReportCache, sidecar: RunningSidecar, organization_id: str, body: NewRate
) -> list[str]:
    directory, today = sidecar.summaries.organizations.directory(), today_of(sidecar)
    later = [
        rate.valid_from
        for rate in directory.rates
        if rate.organization_id == organization_id and rate.valid_from > body.valid_from
    ]
    end = min([today, *(day - ONE_DAY for day in later)])
    since = "for all days" if body.valid_from == ALWAYS else f"from {body.valid_from} on"
    until = f", until the rate of {min(later)}" if later else ""
    if end < body.valid_from:
        return [f"It holds {since}{until}. No day of it has been billed yet."]
    total = _total(reports, organization_id, body.valid_from, end)
    is_fee_only = directory.organization(organization_id).fee_only
    base = total.raw_pico_usd + (0 if is_fee_only else total.upstream_pico_usd)
    then = apply_rate(base, rate_ppm(body.markup))
    return [
        f"It holds {since}{until}.",
        f"{total.events:,} events up to {end} are billed now at {_usd(total.billed_pico_usd)} USD; "
        f"then at about {_usd(then)} USD.",
        "Days that were final and change are written into the corrections.",
    ]


def _change_of_terms(
    reports: ReportCache, sidecar: RunningSidecar, known: Organization, wanted: Organization
) -> list[str]:
    """Return what other terms change, in sentences; none when they stay the same."""
    is_same_base = (wanted.time_zone, wanted.fee_only) == (known.time_zone, known.fee_only)
    if is_same_base and wanted.currency == known.currency:
        return []
    total = _total(reports, known.organization_id, ALWAYS, today_of(sidecar))
    billed = f"{total.events:,} events, billed now at {_usd(total.billed_pico_usd)} USD"
    sentences = []
    if not is_same_base:
        sentences += [
            f"All days of this organization will be projected again: {billed}.",
            "Days that were final and change are written into the corrections.",
        ]
    if wanted.currency != known.currency:
        sentences.append(
            f"All its statements, those of past months too, will be in {wanted.currency} instead "
            f"of {known.currency}: {billed}."
        )
    return sentences


def _total(reports: ReportCache, organization_id: str, start: date, end: date) -> Amounts:
    return reports.total(UsageFilter(start=start, end=end, organization_id=organization_id))


def _usd(pico: int) -> str:
    return format_usd(from_pico(pico))


def _address(organization_id: str) -> str:
    return "/ui/organization?" + urlencode({"organization_id": organization_id})
