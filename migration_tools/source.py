"""The port of a migration: what a source of old usage has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

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
    """A warning about a day or a row; with `left_out` it is not imported.

    `what` is one or two words to count by, `detail` a sentence with the figures.
    """

    organization_id: str
    local_date: date | None = None
    what: str
    detail: str
    left_out: bool = False


@dataclass(frozen=True)
class ImportedOrganization:
    """An organization of a source; each rate, in parts per million, is valid from its day on."""

    organization: Organization
    rates: tuple[tuple[date, int], ...]


@dataclass(frozen=True)
class Membership:
    """A user who belongs to an organization from a local day of that organization on."""

    external_user: str
    organization_id: str
    first_day: date


@dataclass(frozen=True)
class SourceDirectory:
    """The organizations, rates and users that a source brings along with its usage."""

    organizations: tuple[ImportedOrganization, ...] = ()
    memberships: tuple[Membership, ...] = ()
    remarks: tuple[Remark, ...] = ()


class Source(ABC):
    """Old usage, read as events; reading never changes the source.

    `identity` stays the same while a source grows, moves or is copied. With `whole_days` it has no
    single requests: its days must not overlap with anything else. With `keeps_source` events keep
    their own `source` instead of the import's label; with `knows_answers` each names the answer in
    Open WebUI that it belongs to.
    """

    kind: str
    identity: str
    whole_days: bool = False
    keeps_source: bool = False
    knows_answers: bool = False

    @abstractmethod
    def zone_of(self, organization_id: str) -> str:
        """Return the zone in which the days of an organization are counted."""

    @abstractmethod
    def events(
        self, span: DaySpan, label: str, remark: Callable[[Remark], None]
    ) -> Iterator[UsageEvent]:
        """Return the events of a span, always the same in the same order.

        `label` becomes the `source` of the events. Raises MigrationError when the source cannot be
        read.
        """

    def directory(self) -> SourceDirectory:
        return SourceDirectory()

    def side_rows(self, span: DaySpan) -> Iterator[UnmeteredRow | UserRow]:
        """Return the other rows of an event store: unmetered requests and users."""
        return iter(())

    def close(self) -> None:  # noqa: B027  a source of plain files has nothing to close
        """Close files and connections."""


class PerRequestSource(Source):
    """A source of single requests, without organizations: days are those of the ledger's zone."""

    def __init__(self, zone: str) -> None:
        self._zone = zone

    def zone_of(self, organization_id: str) -> str:
        return self._zone
