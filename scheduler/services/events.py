"""Events: the single bills behind a figure, as the API and files write them."""

from datetime import date, datetime

from pydantic import BaseModel

from scheduler.process.running import RunningSidecar
from scheduler.reports.bills import BilledEvent, BillReader, Cursor
from scheduler.services.errors import Refused
from shared.core.money import format_usd


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


def bill_reader(sidecar: RunningSidecar) -> BillReader:
    return BillReader(sidecar.store, sidecar.summaries, sidecar.settings.usage_turns)


def event_body(billed: BilledEvent) -> EventBody:
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


def parse_cursor(after: str | None) -> Cursor | None:
    """Read where a page begins. Raises Refused for what was never the `next` of a page."""
    if after is None:
        return None
    day, _, offset = after.partition(".")
    try:
        return Cursor(date.fromisoformat(day), int(offset))
    except ValueError:
        raise Refused("unusable_value", "after must be `next` of a page", "after") from None
