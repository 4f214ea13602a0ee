"""Route: a record that a person or a script enters by hand."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from scheduler.api.deps import SidecarDep
from scheduler.api.errors import ApiError
from scheduler.api.fields import Body, Instant, LabelText
from scheduler.ingest.ingest import ManualRecord, RecordedEvent
from shared.core.money import parse_usd

router = APIRouter(tags=["recording"])


def _whole(value: object) -> object:
    """Take 18.0 for 18, as JSON does; a part of a token is refused."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


TokenCount = Annotated[int, Field(strict=True, ge=0, le=2**53), BeforeValidator(_whole)]
CostNumber = Annotated[float, Field(strict=True, ge=0, le=1_000_000)]
CostText = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,6}(\.[0-9]{1,12})?$")]
IdempotencyKey = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
]


class ManualBody(Body):
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


class BookedBody(BaseModel):
    """An event that is durable. `outcome` is queued, duplicate (known already) or quarantined."""

    request_id: str
    event_id: str
    occurred_at: datetime
    outcome: str


@router.post("/manual-record")
def manual_record(body: ManualBody, sidecar: SidecarDep) -> BookedBody:
    """Book usage by hand; the answer comes when it is durable."""
    if body.input_tokens + body.output_tokens > body.tokens:
        raise ApiError(409, "contradiction", "input and output are more than all tokens", "tokens")
    record = ManualRecord(
        model=body.model,
        total_tokens=body.tokens,
        cost_usd=parse_usd(body.cost),
        external_user=body.user,
        organization_id=body.organization_id or sidecar.settings.usage_client_org,
        task=body.task,
        input_tokens=body.input_tokens,
        output_tokens=body.output_tokens,
        occurred_at=body.occurred_at,
        idempotency_key=body.idempotency_key,
    )
    return booked_body(sidecar.ingest.manual(record))


def booked_body(booked: RecordedEvent) -> BookedBody:
    """Write what was booked for an answer."""
    if booked.outcome == "refused":
        raise ApiError(409, "refused", "the event is too large to be kept")
    return BookedBody(
        request_id=booked.event.request_id,
        event_id=booked.event.event_id,
        occurred_at=booked.event.occurred_at,
        outcome=booked.outcome,
    )
