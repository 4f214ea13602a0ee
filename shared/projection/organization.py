"""Organizations: who is billed, at which rate, in which zone, and who belonged to them when."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from shared.core.time import whole_second

ALWAYS = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Organization:
    """A client that a deployment bills.

    `time_zone` decides what its days are. `fee_only` leaves what a BYOK provider bills out of the
    base of the markup. An inactive one gets no new users; what it uses is billed all the same.
    """

    organization_id: str
    name: str
    time_zone: str
    currency: str = "USD"
    fee_only: bool = False
    is_active: bool = True


@dataclass(frozen=True)
class MarkupRate:
    """What an organization pays per dollar, in parts per million, from a local day on."""

    organization_id: str
    valid_from: date
    rate_ppm: int


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Where a user belongs from a UTC instant (whole seconds) until the user's next assignment.

    `organization_id` None ends an assignment: the host's own configuration decides again.
    """

    assignment_id: int
    external_user: str
    organization_id: str | None
    valid_from: datetime


@dataclass(frozen=True, kw_only=True)
class OrganizationDefaults:
    """What an organization has until it is described."""

    time_zone: str = "Europe/Warsaw"
    currency: str = "USD"
    rate_ppm: int = 1_300_000

    def organization(self, organization_id: str) -> Organization:
        """Return an organization of which nothing but its id is known."""
        return Organization(
            organization_id=organization_id,
            name=organization_id,
            time_zone=self.time_zone,
            currency=self.currency,
        )


@dataclass(frozen=True)
class Directory:
    """All organizations, rates and assignments at one moment, as a projection applies them."""

    organizations: Mapping[str, Organization]
    rates: Iterable[MarkupRate]
    assignments: Iterable[Assignment]
    defaults: OrganizationDefaults
    _rates: dict[str, list[tuple[date, int]]] = field(init=False, default_factory=dict)
    _moves: dict[str, list[tuple[datetime, str | None]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for rate in sorted(self.rates, key=lambda rate: rate.valid_from):
            self._rates.setdefault(rate.organization_id, []).append(
                (rate.valid_from, rate.rate_ppm)
            )
        for move in sorted(self.assignments, key=lambda move: move.valid_from):
            moves = self._moves.setdefault(move.external_user, [])
            moves.append((whole_second(move.valid_from), move.organization_id))

    def organization(self, organization_id: str) -> Organization:
        """Return an organization; one that was never added has the defaults."""
        known = self.organizations.get(organization_id)
        return known or self.defaults.organization(organization_id)

    def organization_of(self, external_user: str, client_org_id: str, at: datetime) -> str:
        """Return whom an event is billed to: the assignment then in force, else the host's own."""
        moves = self._moves.get(external_user)
        if not moves:
            return client_org_id
        position = bisect_right(moves, at, key=lambda move: move[0])
        assigned = moves[position - 1][1] if position else None
        return assigned or client_org_id

    def rate_ppm(self, organization_id: str, day: date) -> int:
        """Return the markup rate of a local day in parts per million."""
        rates = self._rates_of(organization_id)
        position = bisect_right(rates, day, key=lambda rate: rate[0])
        return rates[position - 1][1] if position else self.defaults.rate_ppm

    def agrees_with(self, other: "Directory", named: Iterable[str]) -> bool:
        """Tell whether both bill alike: an organization added with the defaults changes nothing.

        `named` are organizations that may stand in neither.
        """
        return self._moves == other._moves and all(
            self.organization(each) == other.organization(each)
            and self._rates_of(each) == other._rates_of(each)
            for each in {*self.organizations, *other.organizations, *named}
        )

    def _rates_of(self, organization_id: str) -> list[tuple[date, int]]:
        return self._rates.get(organization_id) or [(ALWAYS, self.defaults.rate_ppm)]

    def moves_between(self, start: datetime, end: datetime) -> list[datetime]:
        """Return every instant inside a span at which an assignment begins."""
        instants = {at for moves in self._moves.values() for at, _ in moves}
        return sorted(at for at in instants if start < at < end)

    def zones(self) -> list[str]:
        """Return every zone that has days; unknown organizations live in the default one."""
        named = {organization.time_zone for organization in self.organizations.values()}
        return sorted(named | {self.defaults.time_zone})
