"""The totals of an organization's day, as a source, a store and the summaries have them."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date
from typing import Self

from shared.core.event import UsageEvent
from shared.event_store.port import UsageSums
from shared.projection.summary import Amounts, event_amounts

COLUMNS: tuple[str, ...] = tuple(each.name for each in fields(UsageSums))


@dataclass(frozen=True, order=True)
class OrganizationDay:
    """An organization's local day."""

    organization_id: str
    local_date: date


class Totals:
    """Sums of events that grow one by one, exact and of any size."""

    def __init__(self, sums: Iterable[int] = ()) -> None:
        self._sums = list(sums) or [0] * len(COLUMNS)

    def add_event(self, event: UsageEvent) -> None:
        """Add one event."""
        for at, amount in enumerate(event_amounts(event)):
            self._sums[at] += amount

    def add_sums(self, sums: UsageSums) -> None:
        """Add what a store has added up."""
        for at, name in enumerate(COLUMNS):
            self._sums[at] += getattr(sums, name)

    def add_amounts(self, amounts: Amounts) -> None:
        """Add a row of the summaries."""
        for at, name in enumerate(COLUMNS):
            self._sums[at] += getattr(amounts, name.replace("cost_pico", "raw_pico"))

    def add(self, other: Self) -> None:
        """Add other figures."""
        for at, amount in enumerate(other.sums):
            self._sums[at] += amount

    @property
    def sums(self) -> list[int]:
        """The sums in the order of COLUMNS."""
        return list(self._sums)

    def __getitem__(self, name: str) -> int:
        return self._sums[COLUMNS.index(name)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Totals) and self._sums == other._sums

    def __hash__(self) -> int:
        return hash(tuple(self._sums))
