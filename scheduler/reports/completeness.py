"""Completeness: how much of the usage is booked at its true cost."""

from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal

from shared.core.amounts import Amounts
from shared.summary_db.reports import Page, UsageFilter, UsageReports

_CONFLICTS_COUNTED = 100_000


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """Counts of generations and answers; unmetered ones are in no other count."""

    booked: int
    settled: int
    pending: int
    estimated: int
    unmetered: int
    conflicts: int

    def coverage_percent(self) -> str:
        """Return the share booked at its true cost, rounded down: 100.00 means all of it."""
        known = self.booked + self.unmetered
        if known == 0:
            return "100.00"
        percent = Decimal(100 * self.settled) / known
        return str(percent.quantize(Decimal("0.01"), rounding=ROUND_DOWN))


def read_completeness(
    reports: UsageReports, wanted: UsageFilter, amounts: Amounts | None = None
) -> Completeness:
    """Count what is booked, pending and unmetered; a filter by source leaves unmetered out.

    `amounts` are those of `wanted`, where they are known already.
    """
    if amounts is None:
        [total] = reports.usage(wanted, ())
        amounts = total.amounts
    unmetered = 0
    if wanted.source is None:
        [line] = reports.unmetered(wanted, ())
        unmetered = line.generations
    found = reports.findings(replace(wanted, source=None), Page(limit=_CONFLICTS_COUNTED))
    return Completeness(
        booked=amounts.events,
        settled=amounts.events - amounts.pending,
        pending=amounts.pending,
        estimated=amounts.estimated,
        unmetered=unmetered,
        conflicts=sum(finding.kind == "conflict" for finding in found),
    )
