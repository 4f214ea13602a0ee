"""Adding up events one by one: exact at any size, where a store's own sums are not to be had."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from shared.core.event import UsageEvent
from shared.core.money import to_pico
from shared.core.time import to_ms
from shared.event_store.port import BUCKET, Fingerprint, UsageGroup, UsageSums

_TOKENS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_AMOUNTS = {
    "cost_usd": "cost_pico_usd",
    "upstream_cost_usd": "upstream_pico_usd",
    "estimated_cost_usd": "estimated_pico_usd",
}
# What is added up as it stands: fields of UsageSums, and columns or fields of a store.
SUMMED = (*_TOKENS, *_AMOUNTS.values())
_BUCKET_MS = int(BUCKET.total_seconds()) * 1000


def add_up(events: Iterable[UsageEvent]) -> list[UsageGroup]:
    """Return the groups and sums of these events, observation by observation."""
    groups: dict[tuple[str, ...], dict[str, int]] = {}
    for event in events:
        key = (event.client_org_id, event.external_user, event.model, event.task, event.source)
        _add(groups.setdefault(key, {}), event)
    return [
        UsageGroup(
            client_org_id=organization,
            external_user=user,
            model=model,
            task=task,
            source=source,
            parts=sums.pop("parts"),
            sums=UsageSums(**sums),
        )
        for (organization, user, model, task, source), sums in groups.items()
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


def _add(sums: dict[str, int], event: UsageEvent) -> None:
    def add(name: str, amount: Any) -> None:
        sums[name] = sums.get(name, 0) + int(amount)

    add("events", event.requests)
    add("parts", event.part is not None)
    add("pending", not event.is_settled)
    add("estimated", event.estimated_cost_usd is not None)
    for name in _TOKENS:
        add(name, getattr(event, name))
    for name, column in _AMOUNTS.items():
        add(column, to_pico(getattr(event, name) or Decimal(0)))
