"""The port of a migration: what every source of old usage can tell."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from shared.core.event import UsageEvent
from shared.core.rows import UnmeteredRow, UserRow
from shared.projection.organization import Organization

# The days of an import that names none.
EVER, ENDLESS = date(2000, 1, 1), date(2199, 12, 31)


@dataclass(frozen=True)
class DaySpan:
    """Local days, both ends included."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something a person should know about a day or a row; `left_out` tells that it stays behind.

    `what` is one or two words to count by, `detail` a sentence with the figures.
    """

    organization_id: str
    local_date: date | None
    what: str
    detail: str
    left_out: bool = False


@dataclass(frozen=True)
class Newcomer:
    """An organization that comes along, with its rates in parts per million from days on."""

    organization: Organization
    rates: tuple[tuple[date, int], ...]


@dataclass(frozen=True)
class Membership:
    """A user who belongs to an organization from a local day of it on."""

    external_user: str
    organization_id: str
    first_day: date


@dataclass(frozen=True)
class Directory:
    """Whom a source bills: what comes along beside the usage."""

    newcomers: tuple[Newcomer, ...] = ()
    memberships: tuple[Membership, ...] = ()
    remarks: tuple[Remark, ...] = field(default=())


class Source(Protocol):
    """Old usage, read as events; reading never changes the source.

    `identity` stays the same while a source grows, moves or is copied. A source of `whole_days`
    knows no single requests: its days must not overlap with anything else. `keeps_source` tells
    that events come over as they are, not as those of an import; `knows_answers` that each names
    the answer in Open WebUI that it belongs to.
    """

    kind: str
    identity: str
    whole_days: bool
    keeps_source: bool
    knows_answers: bool

    def zone_of(self, organization_id: str) -> str:
        """Return the zone in which the days of an organization are counted."""

    def directory(self) -> Directory:
        """Return the organizations, rates and people that come along."""

    def events(
        self, span: DaySpan, label: str, remark: Callable[[Remark], None]
    ) -> Iterator[UsageEvent]:
        """Return the events of some days, always the same in the same order.

        `label` is the events' `source`. Raises MigrationError when the source cannot be read.
        """

    def side_rows(self, span: DaySpan) -> Iterator[UnmeteredRow | UserRow]:
        """Return what stands beside the events; most sources have nothing of it."""

    def close(self) -> None:
        """Close files and connections."""
