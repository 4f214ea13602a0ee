"""A ledger for tests: an embedded store, summaries and a projection, at a time of our choice."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from shared.core.amounts import Amounts
from shared.core.days import ZoneDay
from shared.core.event import UsageEvent
from shared.core.rows import Row
from shared.errors import UsageError
from shared.event_store.sqlite.store import EmbeddedStore
from shared.projection.organization import Organization, OrganizationDefaults
from shared.projection.projection import Projection, ProjectionSettings
from shared.projection.run_report import RunReport
from shared.projection.summary import SummaryRow
from shared.spool.port import SpooledRow
from shared.summary_db.database import SummaryDatabase, open_summaries
from shared.summary_db.reports import UsageFilter
from tests.support.builders import generation_id, settled

WARSAW, TOKYO, NEW_YORK = "Europe/Warsaw", "Asia/Tokyo", "America/New_York"
DAY = date(2026, 11, 24)
DEFAULTS = OrganizationDefaults(time_zone=WARSAW, rate_ppm=1_300_000)


def utc(text: str) -> datetime:
    """Read an instant such as `2026-11-24 12:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def organization(organization_id: str = "acme", **fields: Any) -> Organization:
    """Return an organization in Warsaw."""
    defaults = {"name": organization_id.title(), "time_zone": WARSAW}
    return Organization(organization_id=organization_id, **(defaults | fields))


def generation(number: int, at: str, **fields: Any) -> UsageEvent:
    """Return a generation that cost ten microdollars."""
    moment = utc(at)
    defaults = {
        "request_id": generation_id(number, int(moment.timestamp())),
        "occurred_at": moment,
        "cost_usd": Decimal("0.00001"),
        "chat_id": f"chat-{number}",
        "message_id": f"message-{number}",
    }
    return settled(**(defaults | fields))


@dataclass
class FixedClock:
    """A clock that a test sets."""

    time: datetime = field(default_factory=lambda: utc("2026-11-24 18:00"))

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.time


class Ledger:
    """Everything between delivery and the bill."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.clock = FixedClock()
        self.store: Any = EmbeddedStore(folder / "events.sqlite3")
        self.url = f"sqlite:///{folder / 'summaries.sqlite3'}"
        self.summaries: SummaryDatabase = open_summaries(self.url, DEFAULTS, self.clock)
        self.settings = ProjectionSettings(**settings)

    @property
    def projection(self) -> Projection:
        """Return a projection of the store as it is now."""
        return Projection(self.store, self.summaries.days, self.settings, self.clock)

    def book(self, *rows: Row) -> None:
        """Deliver rows to the event store."""
        self.store.write(spooled(rows))

    def project(self, start: date = DAY, end: date | None = None, **options: Any) -> RunReport:
        """Project local days and insist that every one of them worked."""
        report = self.projection.project_days(start, end or start, **options)
        assert report.failures == []
        return report

    def refresh(self, days_back: int = 2) -> RunReport:
        """Project what changed and insist that it worked."""
        report = self.projection.refresh(days_back)
        assert report.failures == []
        return report

    def rows(self, day: date = DAY, zone: str = WARSAW) -> list[SummaryRow]:
        """Return the stored rows of a day."""
        return list(self.summaries.days.stored_day(ZoneDay(day, zone)).rows)

    def billed(self, day: date = DAY, zone: str = WARSAW) -> dict[str, int]:
        """Return what was billed on a day, in pico-USD by organization."""
        sums: dict[str, int] = {}
        for row in self.rows(day, zone):
            organization_id = row.key.organization_id
            sums[organization_id] = sums.get(organization_id, 0) + row.amounts.billed_pico_usd
        return sums

    def total(self, start: date, end: date) -> Amounts:
        """Return the sum of local days, both ends included."""
        [line] = self.summaries.reports.usage(UsageFilter(start=start, end=end), ())
        return line.amounts

    def close(self) -> None:
        """Close the files."""
        self.store.close()
        self.summaries.close()


def spooled(rows: Iterable[Row]) -> list[SpooledRow]:
    """Return rows as a spool hands them to delivery."""
    return [
        SpooledRow(
            row_id=number,
            kind=row.kind,
            event_id=row.event_id,
            json=row.to_json(),
            point_time_ns=0,
            attempts=0,
        )
        for number, row in enumerate(rows)
    ]


class BrokenStore:
    """A store of which one question fails; all others are answered."""

    def __init__(self, store: EmbeddedStore, question: str, error: UsageError) -> None:
        self._store = store
        self._question = question
        self._error = error

    def __getattr__(self, name: str) -> Any:
        if name == self._question:
            raise self._error
        return getattr(self._store, name)
