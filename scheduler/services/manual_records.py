"""Manual records: usage that a person or a script enters."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints

from scheduler.ingest.ingest import Ingest, ManualRecord, RecordedEvent
from scheduler.services.errors import Refused
from scheduler.services.inputs import Input, Instant, LabelText
from shared.core.money import parse_usd


def _whole(value: object) -> object:
    """Take 18.0 for 18, as JSON does; a part of a token is refused."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


TokenCount = Annotated[int, Field(strict=True, ge=0, le=2**53), BeforeValidator(_whole)]
CostNumber = Annotated[float, Field(strict=True, ge=0, le=1_000_000)]
CostText = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,6}(\.[0-9]{1,12})?$")]
IdempotencyKey = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
]


class NewManualRecord(Input):
    """A record: at least model, tokens and cost, as the original system took them."""

    model: LabelText
    tokens: TokenCount = Field(description="all tokens")
    cost: CostNumber | CostText = Field(description="US dollars; a text keeps every digit")
    user: LabelText = "unknown"
    organization_id: LabelText | None = Field(default=None, description="default: USAGE_CLIENT_ORG")
    task: LabelText = "chat"
    input_tokens: TokenCount = 0
    output_tokens: TokenCount = 0
    occurred_at: Instant | None = Field(default=None, description="default: now")
    idempotency_key: IdempotencyKey | None = Field(
        default=None, description="the same record sent again under its key is booked once"
    )


@dataclass(frozen=True, kw_only=True)
class BookedEvent:
    """An event that is durable. `outcome` is queued, duplicate (known already) or quarantined."""

    request_id: str
    event_id: str
    occurred_at: datetime
    outcome: str


def book_manual_record(
    ingest: Ingest, new: NewManualRecord, default_organization: str
) -> BookedEvent:
    """Book usage by hand; returns when it is durable."""
    if new.input_tokens + new.output_tokens > new.tokens:
        raise Refused("contradiction", "input and output are more than all tokens", "tokens")
    record = ManualRecord(
        model=new.model,
        total_tokens=new.tokens,
        cost_usd=parse_usd(new.cost),
        external_user=new.user,
        organization_id=new.organization_id or default_organization,
        task=new.task,
        input_tokens=new.input_tokens,
        output_tokens=new.output_tokens,
        occurred_at=new.occurred_at,
        idempotency_key=new.idempotency_key,
    )
    return booked_event(ingest.manual(record))


def booked_event(recorded: RecordedEvent) -> BookedEvent:
    """Return what was booked. Raises Refused for an event that was too large to be kept."""
    if recorded.outcome == "refused":
        raise Refused("refused", "the event is too large to be kept")
    return BookedEvent(
        request_id=recorded.event.request_id,
        event_id=recorded.event.event_id,
        occurred_at=recorded.event.occurred_at,
        outcome=recorded.outcome,
    )
