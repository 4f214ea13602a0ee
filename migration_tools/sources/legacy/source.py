"""The original system's SQLite database: daily tables, without any single request."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from migration_tools.source import DaySpan, ImportedOrganization, Remark, Source, SourceDirectory
from migration_tools.sources.legacy.day import Rules, Split, split_day
from migration_tools.sources.legacy.directory import (
    ORIGINAL_RATE,
    ORIGINAL_ZONE,
    read_directory,
    read_identity,
    read_organizations,
)
from migration_tools.sources.legacy.rows import (
    TABLES,
    LegacyDay,
    legacy_days,
    readable,
    tables_of,
    unusable_dates,
)
from shared.core.event import UsageEvent, new_event
from shared.core.ids import digest, is_generation_id
from shared.core.money import from_pico
from shared.errors import MigrationError

_NOON = time(12)
_APPORTIONED = '{"apportioned":true}'


class LegacySqlite(Source):
    """The daily tables as a source; every request of a day becomes one event.

    Events begin at noon of their organization's day, a millisecond apart, so that each stays on the
    day that it was billed on.
    """

    kind = "legacy"
    whole_days = True

    def __init__(self, path: Path, rules: Rules, currency: str) -> None:
        self._path = path
        self._rules = rules
        with readable(path) as connection:
            if not tables_of(connection).intersection(TABLES):
                raise MigrationError(f"{path} has none of the original system's daily tables")
            [damage] = connection.execute("PRAGMA quick_check(1)").fetchone()
            if damage != "ok":
                raise MigrationError(f"{path} is damaged: {' '.join(damage.split())}")
            self._organizations = read_organizations(connection)
            self.identity = read_identity(connection)
            self._directory = read_directory(connection, currency)
            self._unusable_dates = unusable_dates(connection)
        self._rates = {
            each.organization.organization_id: each for each in self._directory.organizations
        }

    def zone_of(self, organization_id: str) -> str:
        organization = self._organizations.get(organization_id)
        return organization.time_zone if organization else ORIGINAL_ZONE

    def directory(self) -> SourceDirectory:
        return self._directory

    def events(
        self, span: DaySpan, label: str, remark: Callable[[Remark], None]
    ) -> Iterator[UsageEvent]:
        for table, count in self._unusable_dates.items():
            detail = f"{count} rows of {table} have no usable date"
            remark(_remark(None, "", "date", detail, left_out=True))
        with readable(self._path) as connection:
            for day in legacy_days(connection, span):
                split = split_day(day, self._rules_of(day))
                for note in split.notes:
                    remark(_remark(day.day, day.organization_id, "note", note))
                if split.refused:
                    detail = split.refused
                    remark(_remark(day.day, day.organization_id, "refused", detail, left_out=True))
                    continue
                yield from self._events_of(day, split, label)

    def _rules_of(self, day: LegacyDay) -> Rules:
        imported = self._rates.get(day.organization_id)
        rate_ppm = _rate_on(imported, day.day) if imported else ORIGINAL_RATE
        return replace(self._rules, rate_ppm=rate_ppm)

    def _events_of(self, day: LegacyDay, split: Split, label: str) -> Iterator[UsageEvent]:
        noon = datetime.combine(day.day, _NOON, tzinfo=ZoneInfo(self.zone_of(day.organization_id)))
        organization = self._organizations.get(day.organization_id)
        common = {
            "grain": "generation",
            "client_org_id": day.organization_id,
            "task": "unknown",
            "source": label,
            "api_key_hash": organization.api_key_hash if organization else "none",
            "cost_source": "legacy",
        }
        requests = chain(self._requests_of(day, split), self._generations_of(split))
        for number, fields in enumerate(requests):
            yield new_event(occurred_at=noon + timedelta(milliseconds=number), **common, **fields)

    def _requests_of(self, day: LegacyDay, split: Split) -> Iterator[dict[str, Any]]:
        """Split cells into requests; each id is made of day, user, model and a number.

        A cell without a request is one event: a part of requests that other cells count.
        """
        for cell in split.cells:
            key = digest([day.organization_id, cell.user, cell.model], size=8)
            prefix = f"legacy:{self.identity}:client_daily_usage:{day.day}:{key}"
            count = max(1, cell.requests)
            tokens, more_tokens = divmod(cell.tokens, count)
            pico, more_pico = divmod(cell.pico, count)
            for number in range(count):
                yield {
                    "request_id": f"{prefix}:{number if cell.requests else 'part'}",
                    "part": None if cell.requests else 1,
                    "external_user": cell.user,
                    "requested_model": cell.model,
                    "model": cell.model,
                    "provider": cell.provider,
                    "total_tokens": tokens + (number < more_tokens),
                    "cost_usd": from_pico(pico + (number < more_pico)),
                    "usage_extra": _APPORTIONED if cell.is_apportioned else "",
                }

    def _generations_of(self, split: Split) -> Iterator[dict[str, Any]]:
        prefix = f"legacy:{self.identity}:processed_generations"
        for portion in split.generations:
            is_known = is_generation_id(portion.name)
            yield {
                "request_id": portion.name if is_known else f"{prefix}:{digest(portion.name)}",
                "external_user": "unknown",
                "model": "unknown",
                "total_tokens": portion.tokens,
                "cost_usd": from_pico(portion.pico),
            }


def _rate_on(imported: ImportedOrganization, day: date) -> int:
    return [rate for since, rate in imported.rates if since <= day][-1]


def _remark(
    day: date | None, organization_id: str, what: str, detail: str, *, left_out: bool = False
) -> Remark:
    return Remark(
        organization_id=organization_id, local_date=day, what=what, detail=detail, left_out=left_out
    )
