"""Pages: the single events behind a figure, unmetered generations, and findings."""

from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import AfterCursor
from scheduler.dashboard.filters import PageFilterDep, filter_values, today_of
from scheduler.dashboard.pages import render
from scheduler.reports.bills import BilledEvent, Unsettled
from scheduler.services.events import bill_reader, event_body, parse_cursor
from shared.summary_db.reports import Page

router = APIRouter()

_EVENTS_PER_PAGE = 100
_LINES_SHOWN = 500
Only = Unsettled | Literal[""]


@dataclass(frozen=True, kw_only=True)
class EventLine:
    """An event as the API writes it, with the address of its chat."""

    body: dict[str, object]
    chat_url: str | None


@router.get("/events")
def events(
    request: Request,
    sidecar: SidecarDep,
    shown: PageFilterDep,
    cost: Annotated[Only, Query()] = "",
    after: AfterCursor = None,
) -> Response:
    """Show bills in the order of their days and times; `cost` leaves out settled ones."""
    today = today_of(sidecar)
    shown = shown.within(today)
    reader, wanted = bill_reader(sidecar), shown.filter()
    following = None
    if cost:
        found = list(islice(reader.unsettled(wanted, cost), _LINES_SHOWN))
    else:
        found, following = reader.page(wanted, _EVENTS_PER_PAGE, parse_cursor(after))
    values = {
        **filter_values(shown, today, sidecar),
        "cost": cost,
        "events": [_shown(each, sidecar.settings.usage_open_webui_url) for each in found],
        "following": following,
        "is_first": after is None,
        "is_cut": bool(cost) and len(found) == _LINES_SHOWN,
    }
    return render(request, "events.html", values)


@router.get("/unmetered")
def unmetered(request: Request, sidecar: SidecarDep, shown: PageFilterDep) -> Response:
    """Show generations whose cost no hook shows."""
    today = today_of(sidecar)
    shown = replace(shown.within(today), source=None)
    lines = sidecar.summaries.reports.unmetered(
        shown.filter(),
        ("day", "organization_id", "external_user", "model", "task"),
        Page(limit=_LINES_SHOWN + 1),
    )
    values = {
        **filter_values(shown, today, sidecar),
        "lines": lines[:_LINES_SHOWN],
        "is_cut": len(lines) > _LINES_SHOWN,
        "by_task": sidecar.summaries.reports.unmetered(shown.filter(), ("task",)),
        "clients": sidecar.summaries.organizations.directory().organizations,
    }
    return render(request, "unmetered.html", values)


@router.get("/findings")
def findings(request: Request, sidecar: SidecarDep, shown: PageFilterDep) -> Response:
    """Show bills with conflicting amounts, and what else needs attention."""
    today = today_of(sidecar)
    shown = shown.within(today)
    found = sidecar.summaries.reports.findings(shown.filter(), Page(limit=_LINES_SHOWN + 1))
    values = {
        **filter_values(shown, today, sidecar),
        "findings": found[:_LINES_SHOWN],
        "is_cut": len(found) > _LINES_SHOWN,
    }
    return render(request, "findings.html", values)


def _shown(billed: BilledEvent, open_webui_url: str) -> EventLine:
    chat_id = billed.event.chat_id
    # Temporary chats and channels have no page of their own.
    has_page = open_webui_url and chat_id and ":" not in chat_id
    address = f"{open_webui_url.rstrip('/')}/c/{quote(chat_id or '', safe='')}"
    return EventLine(body=event_body(billed).model_dump(), chat_url=address if has_page else None)
