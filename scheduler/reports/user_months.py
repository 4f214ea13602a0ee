"""A user's own usage of this month and the one before."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from shared.core.amounts import Amounts
from shared.core.days import ONE_DAY, local_day
from shared.projection.organization import Directory
from shared.summary_db.reports import UnmeteredLine, UsageFilter, UsageLine, UsageReports


@dataclass(frozen=True, kw_only=True)
class ModelMonth:
    model: str
    amounts: Amounts


@dataclass(frozen=True, kw_only=True)
class UserMonth:
    """Local days of one month, both ends included, models in the order of their names.

    `unmetered` counts generations whose cost nobody knows; they are in no amount.
    """

    start: date
    end: date
    models: Sequence[ModelMonth]
    total: Amounts
    unmetered: int


@dataclass(frozen=True, kw_only=True)
class UserMonths:
    """This month up to today, the one before, and the zone of their days."""

    time_zone: str
    months: Sequence[UserMonth]


@dataclass(frozen=True)
class MonthReader:
    """Reads months of users. Raises ProjectionError.

    Who has no assignment counts as one of the organization that was billed for them last; who was
    never billed, as one of `default_organization`.
    """

    reports: UsageReports
    directory: Directory
    default_organization: str

    def read(self, external_user: str, now: datetime) -> UserMonths:
        """Add up the summaries of a user for the month of `now` and the one before."""
        wanted = _span_around(external_user, now)
        used = self.reports.usage(wanted, ("day", "organization_id", "model"))
        unmetered = self.reports.unmetered(wanted, ("day",))
        billed_last = used[-1].group["organization_id"] if used else self.default_organization
        organization_id = self.directory.organization_of(external_user, billed_last, now)
        zone = self.directory.organization(organization_id).time_zone
        today = local_day(now, zone)
        start = today.replace(day=1)
        spans = ((start, today), (_month_before(start), start - ONE_DAY))
        return UserMonths(
            time_zone=zone,
            months=[_month(first, last, used, unmetered) for first, last in spans],
        )


def _span_around(external_user: str, now: datetime) -> UsageFilter:
    """Return a span with both months in any zone, whose today is at most a day from UTC's."""
    earliest = (now.date() - ONE_DAY).replace(day=1)
    start, end = _month_before(earliest), now.date() + ONE_DAY
    return UsageFilter(start=start, end=end, external_user=external_user)


def _month_before(start: date) -> date:
    return (start - ONE_DAY).replace(day=1)


def _month(
    start: date, end: date, used: Sequence[UsageLine], unmetered: Sequence[UnmeteredLine]
) -> UserMonth:
    by_model: dict[str, list[Amounts]] = defaultdict(list)
    for line in used:
        if start <= _day_of(line) <= end:
            by_model[line.group["model"]].append(line.amounts)
    models = [
        ModelMonth(model=name, amounts=sum(by_model[name], Amounts())) for name in sorted(by_model)
    ]
    return UserMonth(
        start=start,
        end=end,
        models=models,
        total=sum((each.amounts for each in models), Amounts()),
        unmetered=sum(line.generations for line in unmetered if start <= _day_of(line) <= end),
    )


def _day_of(line: UsageLine | UnmeteredLine) -> date:
    return date.fromisoformat(line.group["day"])
