"""Amounts: what is added up of usage, the same from an event store to a page."""

from dataclasses import dataclass, fields
from operator import add, attrgetter, sub

from shared.core.event import TOKENS, UsageEvent
from shared.core.money import to_pico


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """Counts of events and tokens, and integer pico-USD, of any size.

    `events` counts requests: an event that is a part of one adds its amounts alone. `pending`
    counts those whose cost is unknown, `estimated` those of them with an estimate.
    `raw` is what OpenRouter charged, `upstream` what a provider bills the owner of a BYOK key,
    `billed` what the organization pays: 0 until a row of the summaries is priced.
    """

    events: int = 0
    pending: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    raw_pico_usd: int = 0
    upstream_pico_usd: int = 0
    estimated_pico_usd: int = 0
    billed_pico_usd: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(**{name: mine + other.__dict__[name] for name, mine in vars(self).items()})


AMOUNTS: tuple[str, ...] = tuple(each.name for each in fields(Amounts))
# What events, stores and imports tell of; nobody knows what is billed before the summaries.
UNBILLED = tuple(name for name in AMOUNTS if name != "billed_pico_usd")
_tokens_of = attrgetter(*TOKENS)


class RunningAmounts:
    """Amounts that grow in place: `+` on a million events one by one takes three times as long."""

    def __init__(self) -> None:
        self._sums = [0] * len(AMOUNTS)

    def add(self, amounts: Amounts) -> None:
        self._sums = list(map(add, self._sums, vars(amounts).values()))

    def add_event(self, event: UsageEvent) -> None:
        self._sums = list(map(add, self._sums, _of_event(event)))

    def subtract_event(self, event: UsageEvent) -> None:
        self._sums = list(map(sub, self._sums, _of_event(event)))

    def total(self) -> Amounts:
        return Amounts(**dict(zip(AMOUNTS, self._sums, strict=True)))


def _of_event(event: UsageEvent) -> tuple[int, ...]:
    """Return what an event counts, in the order of AMOUNTS."""
    costs = (event.cost_usd, event.upstream_cost_usd, event.estimated_cost_usd)
    return (
        event.requests,
        event.cost_usd is None,
        event.estimated_cost_usd is not None,
        *_tokens_of(event),
        *[0 if cost is None else to_pico(cost) for cost in costs],
        0,
    )
