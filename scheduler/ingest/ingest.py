"""Ingest: what is posted becomes events in the sidecar's own spools, durable before an answer."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as DiskTimeout
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex
from threading import Lock
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StringConstraints

from scheduler.process.sidecar import WEBHOOK_SPOOL, spool_settings
from scheduler.services.errors import Refused
from scheduler.services.inputs import Input, Instant, LabelText
from shared.capture.broadcast import broadcast_events, is_broadcast
from shared.capture.webhook import WebhookOwner, original_event
from shared.core.clock import Clock
from shared.core.event import UsageEvent, event_from_json, new_event
from shared.core.ids import canonical_json, digest
from shared.core.money import parse_usd
from shared.errors import InvalidEvent, SpoolError
from shared.settings import Settings
from shared.spool.port import SpoolStatus
from shared.spool.sqlite_spool import SqliteSpool
from shared.summary_db.database import SummaryDatabase

log = logging.getLogger("owui_usage")

_DISK_SECONDS = 30.0


def _whole(value: object) -> object:
    """Take 18.0 for 18, as JSON does; a part of a token is refused."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


TokenCount = Annotated[int, Field(strict=True, ge=0, le=2**53), BeforeValidator(_whole)]
CostNumber = Annotated[float, Field(strict=True, ge=0, le=1_000_000)]
CostText = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,6}(\.[0-9]{1,12})?$")]
IdempotencyKey = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
]


class ManualRecord(Input):
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
class RecordedEvent:
    """An event that is durable. `outcome` is queued, duplicate (known already) or quarantined."""

    request_id: str
    event_id: str
    occurred_at: datetime
    outcome: str


@dataclass(frozen=True)
class WebhookResult:
    """What was booked of a webhook body, and what was refused and why."""

    booked: list[RecordedEvent]
    refused: Sequence[InvalidEvent]


class OwnSpools:
    """One spool for manual records and heartbeats, one for the webhook.

    They may be delivered to different stores.
    """

    def __init__(self, manual: SqliteSpool, webhook: SqliteSpool) -> None:
        self.manual = manual
        self.webhook = webhook

    @classmethod
    def open(cls, settings: Settings, clock: Clock) -> Self:
        """Open both in the shared folder. Raises SpoolError."""
        manual, webhook = (
            SqliteSpool(
                settings.usage_spool_dir / name, settings=spool_settings(settings), clock=clock
            )
            for name in ("sidecar.sqlite3", WEBHOOK_SPOOL)
        )
        return cls(manual, webhook)

    def status(self) -> list[SpoolStatus]:
        return [self.manual.status(), self.webhook.status()]

    def counters(self) -> Counter[str]:
        """Return the counts of both, added up by reason."""
        counted = Counter(self.manual.counters())
        counted.update(self.webhook.counters())
        return counted

    def close(self) -> None:
        """Commit what waits and close both files."""
        self.manual.close()
        self.webhook.close()


class Ingest:
    """Books webhook bodies and manual records through the sidecar's spools; thread-safe.

    Raises InvalidEvent for what cannot become an event, Refused for one that is too large to be
    kept, SpoolError when it could not be made durable.
    """

    def __init__(
        self, spools: OwnSpools, summaries: SummaryDatabase, default_organization: str, clock: Clock
    ) -> None:
        self._spools = spools
        self._summaries = summaries
        self._default = default_organization
        self._clock = clock
        self._lock = Lock()
        self._refused = Counter[str]()

    def webhook(self, body: Mapping[str, Any]) -> WebhookResult:
        """Book a body: OTLP JSON of OpenRouter's Broadcast, or the original system's body."""
        owner = WebhookOwner(
            organizations=self._summaries.keys.organizations(), default=self._default
        )
        now = self._clock.now()
        try:
            if is_broadcast(body):
                reading = broadcast_events(body, owner, now)
                events, refused = reading.events, reading.refused
            else:
                events, refused = [original_event(body, owner, now)], []
        except InvalidEvent as error:
            self._count([error])
            raise
        self._count(refused)
        return WebhookResult(_put(self._spools.webhook, events), refused)

    def manual(self, record: ManualRecord) -> RecordedEvent:
        """Book a manual record.

        Raises Refused when it contradicts itself, ConfigError when its key was used for something
        else.
        """
        if record.input_tokens + record.output_tokens > record.tokens:
            raise Refused("contradiction", "input and output are more than all tokens", "tokens")
        key = record.idempotency_key or token_hex(16)
        event = self._manual_event(record, f"manual:{key}")
        if record.idempotency_key is not None:
            # The first record fixes the time: sent again next month, it is still the same event.
            kept = self._summaries.manual_records.keep(key, self._content(record), event.to_json())
            event = event_from_json(kept)
        [booked] = _put(self._spools.manual, [event])
        return booked

    def refused(self) -> dict[str, int]:
        """Return how many bodies, or events in them, were refused, by reason."""
        with self._lock:
            return dict(self._refused)

    def _manual_event(self, record: ManualRecord, request_id: str) -> UsageEvent:
        return new_event(
            request_id=request_id,
            grain="generation",
            occurred_at=record.occurred_at or self._clock.now(),
            client_org_id=record.organization_id or self._default,
            external_user=record.user,
            requested_model=record.model,
            model=record.model,
            task=record.task,
            source="manual",
            input_tokens=record.input_tokens,
            output_tokens=record.output_tokens,
            total_tokens=record.tokens,
            cost_usd=parse_usd(record.cost),
            cost_source="manual",
        )

    def _content(self, record: ManualRecord) -> str:
        """Return a digest of the content, so that a key cannot stand for two different records."""
        content = {
            "model": record.model,
            "tokens": [record.tokens, record.input_tokens, record.output_tokens],
            "cost": str(parse_usd(record.cost).normalize()),
            "whom": [record.user, record.organization_id or self._default, record.task],
            "at": record.occurred_at.isoformat() if record.occurred_at else None,
        }
        return digest(canonical_json(content))

    def _count(self, refused: Sequence[InvalidEvent]) -> None:
        with self._lock:
            self._refused.update(f"{error.field}_{error.reason}"[:80] for error in refused)
        for error in refused:
            log.warning("webhook: refused, %s: %s", error.field, error.reason)


def _put(spool: SqliteSpool, events: Sequence[UsageEvent]) -> list[RecordedEvent]:
    if not events:
        return []
    try:
        outcomes = spool.put(events).result(_DISK_SECONDS)
    except DiskTimeout:
        raise SpoolError(f"the disk did not answer within {_DISK_SECONDS:.0f} s") from None
    if "refused" in outcomes:
        raise Refused("refused", "the event is too large to be kept")
    return [
        RecordedEvent(
            request_id=event.request_id,
            event_id=event.event_id,
            occurred_at=event.occurred_at,
            outcome=outcome,
        )
        for event, outcome in zip(events, outcomes, strict=True)
    ]
