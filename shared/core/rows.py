"""What travels through a spool: usage events and the three kinds of rows beside them."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from shared.core.event import (
    UNASSIGNED,
    OptionalLabel,
    RequestId,
    UsageEvent,
    UtcTime,
    event_from_json,
)
from shared.core.ids import clean_label, digest
from shared.errors import InvalidEvent


class _SideRow(BaseModel):
    """A row beside the usage events; never money."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    schema_version: int = 1

    def to_json(self) -> str:
        return self.model_dump_json(exclude_none=True)


def _side_row_label(value: object) -> str:
    return clean_label(value, "unknown")


Label = Annotated[str, BeforeValidator(_side_row_label)]


class UnmeteredRow(_SideRow):
    """A generation that was made and whose cost no hook shows.

    `request_id` is `task:<random>` for a background task, and the `turn:` id of the answer for an
    inlet whose outlet never came; an event of that answer cancels the row.
    """

    kind: ClassVar[Literal["unmetered"]] = "unmetered"
    request_id: RequestId
    occurred_at: UtcTime
    client_org_id: Label = UNASSIGNED
    external_user: Label
    model: Label
    task: Label
    chat_id: OptionalLabel = None
    message_id: OptionalLabel = None

    @property
    def event_id(self) -> str:
        return digest(["unmetered", self.request_id])


class HostRow(_SideRow):
    """The heartbeat of a process that captures or delivers; the newest one is its status.

    `counters` are totals since the process began; times are UTC, latencies milliseconds.
    """

    kind: ClassVar[Literal["host"]] = "host"
    host_id: Label
    occurred_at: UtcTime
    host_kind: Literal["function", "pipeline", "sidecar"]
    version: Label
    started_at: UtcTime
    delivery_state: Label = "idle"
    breaker: Label = "closed"
    message: Label = "ok"
    queued: Annotated[int, Field(ge=0)] = 0
    dead_letters: Annotated[int, Field(ge=0)] = 0
    oldest_age_seconds: Annotated[float, Field(ge=0)] = 0.0
    hook_p50_ms: float | None = None
    hook_p99_ms: float | None = None
    write_p50_ms: float | None = None
    write_p99_ms: float | None = None
    counters: dict[str, int] = Field(default_factory=dict)

    @property
    def event_id(self) -> str:
        return digest(["host", self.host_id, self.occurred_at.isoformat()])


class UserRow(_SideRow):
    """The name behind a user id: kept apart, so that it can be erased and events stay nameless."""

    kind: ClassVar[Literal["user"]] = "user"
    user_id: Label
    occurred_at: UtcTime
    name: OptionalLabel = None
    email: OptionalLabel = None

    @property
    def event_id(self) -> str:
        """Equal for the same name of the same user on one day of UTC.

        Another day is another row: a user may return to an earlier name.
        """
        day = self.occurred_at.date().isoformat()
        return digest(["user", self.user_id, self.name, self.email, day])


Row = UsageEvent | UnmeteredRow | HostRow | UserRow
RowKind = Literal["usage", "unmetered", "host", "user"]

_SIDE_ROWS: dict[str, type[UnmeteredRow] | type[HostRow] | type[UserRow]] = {
    "unmetered": UnmeteredRow,
    "host": HostRow,
    "user": UserRow,
}


def row_from_json(kind: str, text: str) -> Row:
    """Read a row of a spool. Raises InvalidEvent when it is damaged or of an unknown kind."""
    if kind == "usage":
        return event_from_json(text)
    if kind not in _SIDE_ROWS:
        raise InvalidEvent("unknown_kind", "kind", kind)
    try:
        return _SIDE_ROWS[kind].model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidEvent(first["msg"], ".".join(map(str, first["loc"])), "...") from None
