"""Summaries: what an organization used on a local day, by user, model, task and source."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from decimal import Decimal

from shared.core.event import UsageEvent
from shared.core.money import apply_rate, to_pico
from shared.projection.organization import Directory

_ZERO = Decimal(0)


@dataclass(frozen=True, order=True, kw_only=True)
class SummaryKey:
    """The grain of the fact table; `local_date` is a day in the organization's zone."""

    organization_id: str
    local_date: date
    external_user: str
    model: str
    task: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What is added up: counts of events and tokens, and pico-USD.

    `events` counts requests: an event that is a part of one adds its amounts alone. `pending`
    counts those whose cost is unknown, `estimated` those of them with an estimate.
    `raw` is what OpenRouter charged, `upstream` what a provider bills the owner of a BYOK key,
    `billed` what the organization pays: the base times its rate, rounded once per row.
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


# The columns of the fact table that are no key; all but the last are added up from events.
AMOUNTS: tuple[str, ...] = tuple(each.name for each in fields(Amounts))


@dataclass(frozen=True)
class SummaryRow:
    """One row of the fact table."""

    key: SummaryKey
    amounts: Amounts


@dataclass(frozen=True, order=True, kw_only=True)
class UnmeteredCount:
    """Generations of a local day whose cost nobody knows."""

    organization_id: str
    local_date: date
    external_user: str
    model: str
    task: str
    generations: int


@dataclass(frozen=True, order=True, kw_only=True)
class DayFinding:
    """Something about a bill of a local day that a person should know."""

    organization_id: str
    local_date: date
    request_id: str
    kind: str
    detail: str


@dataclass(frozen=True)
class DayFacts:
    """Everything the summaries hold of one or more days, each list in the order of its keys."""

    rows: Sequence[SummaryRow] = ()
    unmetered: Sequence[UnmeteredCount] = ()
    findings: Sequence[DayFinding] = ()


@dataclass
class Tally:
    """Adds up bills by row; amounts stay exact integers of any size."""

    _sums: dict[SummaryKey, list[int]] = field(default_factory=dict)

    def add(self, key: SummaryKey, amounts: Iterable[int]) -> None:
        """Add to a row, in the order of AMOUNTS without `billed_pico_usd`."""
        sums = self._sums.setdefault(key, [0] * (len(AMOUNTS) - 1))
        for position, amount in enumerate(amounts):
            sums[position] += amount

    def rows(self, directory: Directory) -> list[SummaryRow]:
        """Return the rows with what their organizations pay, in the order of their keys.

        What was added and taken out again leaves no row.
        """
        return [
            SummaryRow(key, _with_billed(key, self._sums[key], directory))
            for key in sorted(self._sums)
            if any(self._sums[key])
        ]


def event_amounts(event: UsageEvent) -> tuple[int, ...]:
    """Return what one bill adds to its row, in the order that `Tally.add` takes."""
    return (
        event.requests,
        event.cost_usd is None,
        event.estimated_cost_usd is not None,
        event.input_tokens,
        event.output_tokens,
        event.total_tokens,
        event.cached_tokens,
        event.cache_write_tokens,
        event.reasoning_tokens,
        to_pico(event.cost_usd or _ZERO),
        to_pico(event.upstream_cost_usd or _ZERO),
        to_pico(event.estimated_cost_usd or _ZERO),
    )


def billed_pico(key: SummaryKey, raw_pico: int, upstream_pico: int, directory: Directory) -> int:
    """Return what a row costs its organization: base x rate of the day, rounded half to even.

    The base is the charge of OpenRouter and, unless the organization is `fee_only`, what a BYOK
    provider bills beside it.
    """
    fee_only = directory.organization(key.organization_id).fee_only
    base = raw_pico if fee_only else raw_pico + upstream_pico
    return apply_rate(base, directory.rate_ppm(key.organization_id, key.local_date))


def _with_billed(key: SummaryKey, sums: Sequence[int], directory: Directory) -> Amounts:
    amounts = dict(zip(AMOUNTS, sums, strict=False))
    raw, upstream = amounts["raw_pico_usd"], amounts["upstream_pico_usd"]
    return Amounts(**amounts, billed_pico_usd=billed_pico(key, raw, upstream, directory))
