"""Adding up events one by one: exact at any size, where a store's own sums are not to be had."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from shared.core.amounts import RunningAmounts
from shared.core.event import PICO_FIELDS, TOKENS, UsageEvent
from shared.core.money import to_pico
from shared.core.time import to_ms
from shared.event_store.port import BUCKET, Fingerprint, UsageGroup

# The column or field of a store that holds what is added up as it stands.
STORED = {name: name for name in TOKENS} | {
    "raw_pico_usd": PICO_FIELDS["cost_usd"],
    "upstream_pico_usd": PICO_FIELDS["upstream_cost_usd"],
    "estimated_pico_usd": PICO_FIELDS["estimated_cost_usd"],
}
_BUCKET_MS = int(BUCKET.total_seconds()) * 1000


def add_up(events: Iterable[UsageEvent]) -> list[UsageGroup]:
    """Return the groups and sums of these events, observation by observation."""
    sums: dict[tuple[str, ...], RunningAmounts] = defaultdict(RunningAmounts)
    parts: Counter[tuple[str, ...]] = Counter()
    for event in events:
        key = (event.client_org_id, event.external_user, event.model, event.task, event.source)
        sums[key].add_event(event)
        if event.part:
            parts[key] += 1
    return [
        UsageGroup(
            client_org_id=organization,
            external_user=user,
            model=model,
            task=task,
            source=source,
            amounts=running.total(),
            parts=parts[organization, user, model, task, source],
        )
        for (organization, user, model, task, source), running in sums.items()
    ]


def fingerprint_events(events: Iterable[UsageEvent]) -> dict[datetime, Fingerprint]:
    """Return what each 15-minute bucket of these events holds."""
    buckets: dict[datetime, list[int]] = {}
    for event in events:
        within = to_ms(event.occurred_at) % _BUCKET_MS
        bucket = buckets.setdefault(event.occurred_at - within * (BUCKET / _BUCKET_MS), [0, 0, 0])
        bucket[0] += 1
        bucket[1] += to_pico(event.cost_usd or Decimal(0))
        bucket[2] += event.total_tokens
    return {start: Fingerprint(*sums) for start, sums in buckets.items()}
