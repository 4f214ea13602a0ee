"""The seam to what the API asks of the database: figures by any side, rates, keys, batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

from shared.core.amounts import Amounts
from shared.projection.summary import DayFinding
from shared.summary_db.exchange import ExchangeRate, ExchangeRates

# What figures can be grouped by: sides of the fact table, the author of the model, spans of days.
Grouping = Literal[
    "organization_id",
    "external_user",
    "model",
    "provider",
    "task",
    "source",
    "day",
    "week",
    "month",
]
BatchState = Literal["running", "done", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class UsageFilter:
    """Which usage is meant: local days, both ends included, and any sides of the fact table."""

    start: date
    end: date
    organization_id: str | None = None
    external_user: str | None = None
    model: str | None = None
    provider: str | None = None
    task: str | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """A piece of a list: at most `limit` lines after the first `offset`."""

    limit: int
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class UsageLine:
    """A figure: what it was grouped by, and all its amounts. Sums are exact, however large.

    A week is named by its Monday, a month by its first day.
    """

    group: Mapping[str, str]
    amounts: Amounts


@dataclass(frozen=True, kw_only=True)
class UnmeteredLine:
    """How many generations of a group have a cost that nobody knows."""

    group: Mapping[str, str]
    generations: int


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """A projection that a person asked for, from the moment of asking to its counts."""

    request_id: int
    state: BatchState
    asked_at: datetime
    ended_at: datetime | None
    start: date
    end: date
    allow_shrink: str | None
    days: int
    failed_days: int
    rows_written: int
    corrections: int
    error: str | None


@dataclass(frozen=True, kw_only=True)
class BatchCounts:
    """How an asked-for projection ended."""

    days: int
    failed_days: int
    rows_written: int
    corrections: int
    error: str | None


class UsageReports(Protocol):
    """Figures over the summaries. Raises ProjectionError when the database cannot be used."""

    def usage(
        self, wanted: UsageFilter, group_by: Sequence[Grouping], page: Page | None = None
    ) -> list[UsageLine]:
        """Add up by groups, in their order; without a grouping there is one line."""

    def unmetered(
        self, wanted: UsageFilter, group_by: Sequence[Grouping], page: Page | None = None
    ) -> list[UnmeteredLine]:
        """Count generations of unknown cost by groups; they have no source."""

    def findings(self, wanted: UsageFilter, page: Page) -> list[DayFinding]:
        """Return what a person should know of bills, the newest day first."""

    def oldest_pending_day(self) -> date | None:
        """Return the first local day with an event whose cost is unknown."""


class AdminBooks(UsageReports, Protocol):
    """What the API keeps beside summaries and organizations; every method is one transaction."""

    def organization_keys(self) -> dict[str, str]:
        """Return organizations by the hash of their OpenRouter key."""

    def enter_key(self, organization_id: str, api_key_hash: str) -> None:
        """Let a key bill an organization. Raises ConfigError for one that is not known."""

    def remove_key(self, organization_id: str, api_key_hash: str) -> bool:
        """Take a key from an organization; False when it was not there."""

    def keep_manual_record(self, key: str, content_digest: str, event_json: str) -> str:
        """Keep a manual record under its key and return the one that counts: the first.

        Raises ConfigError when the key was used for something else.
        """

    def enter_rates(self, rates: Sequence[ExchangeRate]) -> int:
        """Enter rates, in the place of those of the same currency and day; return how many."""

    def exchange_rates(self, currency: str) -> ExchangeRates:
        """Return all rates of a currency."""

    def list_rates(self, currency: str | None, page: Page) -> list[ExchangeRate]:
        """Return rates, the newest day first."""

    def ask_batch(self, start: date, end: date, allow_shrink: str | None) -> BatchRequest:
        """Write down that a projection was asked for."""

    def end_batch(self, request_id: int, counts: BatchCounts) -> None:
        """Write down how it ended."""

    def interrupt_batches(self) -> int:
        """Mark those as interrupted that a process left behind running; return how many."""

    def batch_requests(self, page: Page) -> list[BatchRequest]:
        """Return the newest first."""

    def prune_audit(self, before: datetime) -> int:
        """Delete records of runs that ended before an instant; corrections are kept for ever."""

    def last_run(self, start: date, end: date) -> int:
        """Return the id of the newest run of these days, 0 without one: they change with it."""

    def schema_is_current(self) -> bool:
        """Tell whether the schema is the one of this version."""
