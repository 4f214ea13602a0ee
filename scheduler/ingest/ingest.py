"""Ingest: what is posted becomes events in the sidecar's own spools, durable before an answer."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as DiskTimeout
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from secrets import token_hex
from threading import Lock
from typing import Any, Self

from scheduler.process.sidecar import WEBHOOK_SPOOL, spool_settings
from shared.capture.broadcast import broadcast_events, is_broadcast
from shared.capture.webhook import WebhookOwner, original_event
from shared.core.clock import Clock
from shared.core.event import UsageEvent, event_from_json, new_event
from shared.core.ids import canonical_json, digest
from shared.errors import InvalidEvent, SpoolError
from shared.settings import Settings
from shared.spool.port import PutOutcome, SpoolStatus
from shared.spool.sqlite_spool import SqliteSpool
from shared.summary_db.database import SummaryDatabase

log = logging.getLogger("owui_usage")

_DISK_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class ManualRecord:
    """Usage that is entered by hand; `occurred_at` None is now.

    With an idempotency key a record that is sent again is booked once.
    """

    model: str
    total_tokens: int
    cost_usd: Decimal
    external_user: str
    organization_id: str
    task: str = "chat"
    input_tokens: int = 0
    output_tokens: int = 0
    occurred_at: datetime | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True)
class RecordedEvent:
    """A durable event; `outcome` tells whether it was new."""

    event: UsageEvent
    outcome: PutOutcome


@dataclass(frozen=True)
class WebhookResult:
    """What was booked of a webhook body, and what was refused and why."""

    booked: Sequence[RecordedEvent]
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

    Raises
    InvalidEvent for what cannot become an event, SpoolError when it could not be made durable.
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
        """Book a manual record. Raises ConfigError when its key was used for something else."""
        key = record.idempotency_key or token_hex(16)
        event = _manual_event(record, f"manual:{key}", self._clock.now())
        if record.idempotency_key is not None:
            # The first record fixes the time: sent again next month, it is still the same event.
            kept = self._summaries.manual_records.keep(key, _content(record), event.to_json())
            event = event_from_json(kept)
        [booked] = _put(self._spools.manual, [event])
        return booked

    def refused(self) -> dict[str, int]:
        """Return how many bodies, or events in them, were refused, by reason."""
        with self._lock:
            return dict(self._refused)

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
    return [RecordedEvent(*pair) for pair in zip(events, outcomes, strict=True)]


def _manual_event(record: ManualRecord, request_id: str, now: datetime) -> UsageEvent:
    return new_event(
        request_id=request_id,
        grain="generation",
        occurred_at=record.occurred_at or now,
        client_org_id=record.organization_id,
        external_user=record.external_user,
        requested_model=record.model,
        model=record.model,
        task=record.task,
        source="manual",
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        total_tokens=record.total_tokens,
        cost_usd=record.cost_usd,
        cost_source="manual",
    )


def _content(record: ManualRecord) -> str:
    """Return a digest of the content, so that a key cannot stand for two different records."""
    content = {
        "model": record.model,
        "tokens": [record.total_tokens, record.input_tokens, record.output_tokens],
        "cost": str(record.cost_usd.normalize()),
        "whom": [record.external_user, record.organization_id, record.task],
        "at": record.occurred_at.isoformat() if record.occurred_at else None,
    }
    return digest(canonical_json(content))
