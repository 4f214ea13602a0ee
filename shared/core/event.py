"""The usage event: one observation of one OpenRouter generation or of one whole answer."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from shared.core.ids import clean_label, clean_request_id, digest
from shared.core.money import format_usd, parse_usd, to_pico
from shared.errors import InvalidEvent

SCHEMA_VERSION = 1
UNASSIGNED = "unassigned"
CostSource = Literal[
    "response",
    "generation",
    "analytics",
    "webhook",
    "outlet",
    "estimate",
    "manual",
    "legacy",
    "none",
]
# From the most to the least trustworthy: the rank of two observations of one bill.
COST_SOURCES: tuple[str, ...] = get_args(CostSource)
CLOCK_SLACK = timedelta(hours=1)
# Fields of an event, and the integers of 1e-12 USD that stores keep of its amounts.
TOKENS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
PICO_FIELDS = {
    "cost_usd": "cost_pico_usd",
    "upstream_cost_usd": "upstream_pico_usd",
    "estimated_cost_usd": "estimated_pico_usd",
}
_USAGE_EXTRA_MAX = 1024


def _to_utc_milliseconds(value: datetime) -> datetime:
    """Keep milliseconds of UTC: the resolution that every store and every host can give back."""
    if value.tzinfo is None:
        raise ValueError("a time needs a zone")
    value = value.astimezone(UTC)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def _label(default: str) -> BeforeValidator:
    return BeforeValidator(lambda value: clean_label(value, default))


def _optional_label(value: object) -> str | None:
    return clean_label(value, "") or None


def _usable_user(value: object) -> str:
    user = clean_label(value, "")
    if not user:
        raise ValueError("an event needs a user")
    return user


def _optional_usd(value: object) -> Decimal | None:
    return None if value is None else parse_usd(value)


def _usable_id(value: object) -> str:
    # pydantic adds the field's name to a ValueError; InvalidEvent is none.
    try:
        return clean_request_id(value)
    except InvalidEvent as error:
        raise ValueError(error.reason) from error


UtcTime = Annotated[datetime, AfterValidator(_to_utc_milliseconds)]
RequestId = Annotated[str, BeforeValidator(_usable_id)]
OptionalLabel = Annotated[str | None, BeforeValidator(_optional_label)]
Usd = Annotated[
    Decimal | None,
    BeforeValidator(_optional_usd),
    PlainSerializer(lambda usd: None if usd is None else format_usd(usd), return_type=str | None),
]
Tokens = Annotated[int, Field(ge=0, le=2**53)]


class UsageEvent(BaseModel):
    """One observation of what OpenRouter billed: who, which model, how many tokens, what it cost.

    Frozen; tokens are counts, amounts US dollars exact to 1e-12, times UTC in milliseconds, fixed
    when the event is born. `cost_usd` None means pending: unknown is never 0. Fields are only ever
    added; a reader of another version ignores what it does not know and fills in what is missing.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    kind: ClassVar[Literal["usage"]] = "usage"
    schema_version: int = SCHEMA_VERSION
    request_id: RequestId
    grain: Literal["generation", "turn"]
    occurred_at: UtcTime
    client_org_id: Annotated[str, _label(UNASSIGNED)] = UNASSIGNED
    external_user: Annotated[str, BeforeValidator(_usable_user)]
    requested_model: Annotated[str, _label("unknown")] = "unknown"
    model: Annotated[str, _label("unknown")]
    provider: Annotated[str, _label("unknown")] = "unknown"
    task: Annotated[str, _label("chat")] = "chat"
    source: Annotated[str, _label("unknown")]
    api_key_hash: Annotated[str, _label("none")] = "none"
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    total_tokens: Tokens = 0
    cached_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    cost_usd: Usd = None
    is_byok: bool = False
    upstream_cost_usd: Usd = None
    estimated_cost_usd: Usd = None
    cost_source: CostSource
    chat_id: OptionalLabel = None
    message_id: OptionalLabel = None
    finish_reason: OptionalLabel = None
    service_tier: OptionalLabel = None
    latency_ms: Annotated[int, Field(ge=0)] | None = None
    usage_extra: Annotated[str, Field(max_length=_USAGE_EXTRA_MAX)] = ""
    # Tokens and money of a request that another event counts; imports of mere sums have such.
    part: Literal[1] | None = None

    @model_validator(mode="after")
    def _money_is_consistent(self) -> Self:
        if self.cost_source in ("none", "estimate"):
            if self.cost_usd is not None:
                raise ValueError(f"cost_source {self.cost_source} cannot carry cost_usd")
        elif self.cost_usd is None:
            raise ValueError(f"cost_source {self.cost_source} needs cost_usd")
        if (self.cost_source == "estimate") != (self.estimated_cost_usd is not None):
            raise ValueError("estimated_cost_usd goes with cost_source estimate, and only with it")
        if self.upstream_cost_usd is not None and not self.is_byok:
            raise ValueError("upstream_cost_usd is money only when is_byok")
        if self.part and not self.is_settled:
            raise ValueError("a part of a request needs cost_usd")
        return self

    @property
    def event_id(self) -> str:
        """Equal for the same observation delivered twice."""
        return digest(
            [
                self.request_id,
                self.source,
                self.cost_source,
                _pico(self.cost_usd),
                _pico(self.upstream_cost_usd),
                self.is_byok,
                self.input_tokens,
                self.output_tokens,
                self.cached_tokens,
                self.cache_write_tokens,
                self.reasoning_tokens,
                self.total_tokens,
                self.model,
            ]
        )

    @property
    def is_settled(self) -> bool:
        return self.cost_usd is not None

    @property
    def requests(self) -> int:
        """1, or 0 if it is a part of a request that another event counts."""
        return 0 if self.part else 1

    def to_json(self) -> str:
        """Write the event as one line of JSON; `event_from_json` reads it back, equal."""
        return self.model_dump_json(exclude_none=True)


def new_event(**fields: Any) -> UsageEvent:
    """Build an event from checked and unchecked values alike.

    Raises InvalidEvent with the first wrong field and its value.
    """
    try:
        return UsageEvent(**fields)
    except ValidationError as error:
        raise _as_invalid_event(error) from None


def event_from_json(text: str | bytes) -> UsageEvent:
    """Read an event written by this or another version.

    Raises InvalidEvent with the first wrong field and its value.
    """
    try:
        return UsageEvent.model_validate_json(text)
    except ValidationError as error:
        raise _as_invalid_event(error) from None


def quarantine_reason(event: UsageEvent, now: datetime, max_cost_usd: Decimal) -> str | None:
    """Return why a person should look at this event before it counts, or None.

    An amount above the limit or a time more than an hour ahead of the clock is kept, not refused:
    the one may be real, the other the fault of our own clock.
    """
    amounts = (event.cost_usd, event.upstream_cost_usd, event.estimated_cost_usd)
    if any(amount is not None and amount > max_cost_usd for amount in amounts):
        return "cost_above_limit"
    if event.occurred_at > now + CLOCK_SLACK and not event.source.startswith("import:"):
        return "in_the_future"
    return None


def _pico(amount: Decimal | None) -> int | None:
    return None if amount is None else to_pico(amount)


def _as_invalid_event(error: ValidationError) -> InvalidEvent:
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "event"
    value = (
        first["input"]
        if isinstance(first["input"], str | int | float)
        else type(first["input"]).__name__
    )
    return InvalidEvent(first["msg"].removeprefix("Value error, "), field, value)
