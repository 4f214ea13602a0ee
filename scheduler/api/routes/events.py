"""Routes: the single events behind any figure, with their request_ids."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.api.fields import AfterCursor
from scheduler.api.routes.summaries import Wanted
from scheduler.services.events import EventBody, bill_reader, event_body, parse_cursor

router = APIRouter(tags=["figures"])

Limit = Annotated[int, Query(ge=1, le=1000)]


class EventsPage(BaseModel):
    """A page of bills in the order of their days and times."""

    events: list[EventBody]
    next: str | None


@router.get("/events")
def events(
    sidecar: SidecarDep,
    wanted: Annotated[Wanted, Depends()],
    limit: Limit = 100,
    after: AfterCursor = None,
) -> EventsPage:
    """The bills that add up to a figure; a null cost is not known yet."""
    found, following = bill_reader(sidecar).page(wanted.filter(), limit, parse_cursor(after))
    return EventsPage(
        events=[event_body(each) for each in found], next=str(following) if following else None
    )
