"""Routes: the single events behind any figure, with their request_ids."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, StringConstraints

from scheduler.api.deps import SidecarDep
from scheduler.api.errors import ApiError
from scheduler.api.routes.summaries import Wanted
from scheduler.process.running import RunningSidecar
from scheduler.reports.bills import BilledEvent, BillReader, Place
from shared.core.money import format_usd

router = APIRouter(tags=["figures"])

Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[
    str | None,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\.[0-9]{1,9}$"),
    Query(description="`next` of the page before"),
]


class EventBody(BaseModel):
    """A bill: what OpenRouter charged for one generation, or for one answer. US dollars, exact.

    `requests` is 1, or 0 for a part of a request whose other parts stand in bills of their own.
    """

    request_id: str
    grain: str
    organization_id: str
    local_date: date
    occurred_at: datetime
    external_user: str
    requested_model: str
    model: str
    provider: str
    task: str
    source: str
    api_key_hash: str
    requests: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_usd: str | None
    cost_source: str
    is_byok: bool
    upstream_cost_usd: str | None
    estimated_cost_usd: str | None
    chat_id: str | None
    message_id: str | None
    finish_reason: str | None
    observations: int
    is_conflict: bool


class EventsPage(BaseModel):
    """A page of bills in the order of their days and times."""

    events: list[EventBody]
    next: str | None


@router.get("/events")
def events(
    sidecar: SidecarDep,
    wanted: Annotated[Wanted, Depends()],
    limit: Limit = 100,
    after: After = None,
) -> EventsPage:
    """The bills that add up to a figure; a null cost is not known yet."""
    found, following = bill_reader(sidecar).page(wanted.filter(), limit, page_place(after))
    return EventsPage(
        events=[event_body(each) for each in found], next=str(following) if following else None
    )


def bill_reader(sidecar: RunningSidecar) -> BillReader:
    """Return what reads bills of this sidecar's stores."""
    return BillReader(sidecar.store, sidecar.summaries, sidecar.books, sidecar.settings.usage_turns)


def event_body(billed: BilledEvent) -> EventBody:
    """Write a bill for an answer."""
    event = billed.event
    own = {name: getattr(event, name) for name in EventBody.model_fields if hasattr(event, name)}
    amounts = ("cost_usd", "upstream_cost_usd", "estimated_cost_usd")
    return EventBody(
        **own | {name: None if own[name] is None else format_usd(own[name]) for name in amounts},
        organization_id=billed.organization_id,
        local_date=billed.local_date,
        observations=billed.observations,
        is_conflict=billed.is_conflict,
    )


def page_place(after: str | None) -> Place | None:
    """Read where a page begins. Raises ApiError for what was never a `next`."""
    if after is None:
        return None
    day, _, offset = after.partition(".")
    try:
        return Place(date.fromisoformat(day), int(offset))
    except ValueError:
        raise ApiError(409, "unusable_value", "after must be `next` of a page", "after") from None
