"""Summaries: what an organization used on a local day, by user, model, task and source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from shared.core.amounts import Amounts, RunningAmounts
from shared.core.money import apply_rate
from shared.projection.organization import Directory


@dataclass(frozen=True, order=True, kw_only=True)
class SummaryKey:
    """The grain of the fact table; `local_date` is a day in the organization's zone."""

    organization_id: str
    local_date: date
    external_user: str
    model: str
    task: str
    source: str


@dataclass(frozen=True)
class SummaryRow:
    """One row of the fact table."""

    key: SummaryKey
    amounts: Amounts


@dataclass(frozen=True, order=True, kw_only=True)
class UnmeteredCount:
    """Generations of a local day whose cost is unknown."""

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


def billed_pico(key: SummaryKey, raw_pico: int, upstream_pico: int, directory: Directory) -> int:
    """Return what a row costs its organization: base x rate of the day, rounded half to even.

    The base is the charge of OpenRouter and, unless the organization is `fee_only`, what a BYOK
    provider bills beside it.
    """
    fee_only = directory.organization(key.organization_id).fee_only
    base = raw_pico if fee_only else raw_pico + upstream_pico
    return apply_rate(base, directory.rate_ppm(key.organization_id, key.local_date))


def priced(sums: Mapping[SummaryKey, RunningAmounts], directory: Directory) -> list[SummaryRow]:
    """Return the rows with what their organizations pay, in the order of their keys.

    What was added and subtracted again leaves no row.
    """
    totals = {key: sums[key].total() for key in sorted(sums)}
    return [
        SummaryRow(key, _with_billed(key, amounts, directory))
        for key, amounts in totals.items()
        if amounts != Amounts()
    ]


def _with_billed(key: SummaryKey, amounts: Amounts, directory: Directory) -> Amounts:
    billed = billed_pico(key, amounts.raw_pico_usd, amounts.upstream_pico_usd, directory)
    return replace(amounts, billed_pico_usd=billed)
