"""What the API keeps and asks for in the database of summaries, each method one transaction."""

from collections.abc import Sequence
from datetime import date, datetime

from sqlalchemy import Engine

from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.projection.summary import DayFinding
from shared.summary_db import batch_requests as batches
from shared.summary_db import keys_and_rates as entries
from shared.summary_db import reports
from shared.summary_db.engine import Transactions, open_engine
from shared.summary_db.exchange import ExchangeRate, ExchangeRates
from shared.summary_db.port import (
    BatchCounts,
    BatchRequest,
    Grouping,
    Page,
    UnmeteredLine,
    UsageFilter,
    UsageLine,
)


class SqlAdminBooks:
    """The admin's books in an SQL database whose schema `open_summaries` has brought up to date."""

    def __init__(self, engine: Engine, clock: Clock = SYSTEM_CLOCK) -> None:
        self._transactions = Transactions(engine)
        self._clock = clock

    @classmethod
    def open(cls, database_url: str, clock: Clock = SYSTEM_CLOCK) -> "SqlAdminBooks":
        """Open the books. Raises ConfigError for a URL that cannot be used."""
        return cls(open_engine(database_url), clock)

    @property
    def database(self) -> str:
        """What kind of database this is: `sqlite` or `postgresql`."""
        return self._transactions.database

    def usage(
        self, wanted: UsageFilter, group_by: Sequence[Grouping], page: Page | None = None
    ) -> list[UsageLine]:
        """Add up by groups, in their order; without a grouping there is one line."""
        with self._transactions.reading() as connection:
            return reports.read_usage(connection, wanted, group_by, page)

    def unmetered(
        self, wanted: UsageFilter, group_by: Sequence[Grouping], page: Page | None = None
    ) -> list[UnmeteredLine]:
        """Count generations of unknown cost by groups; they have no source."""
        with self._transactions.reading() as connection:
            return reports.read_unmetered(connection, wanted, group_by, page)

    def findings(self, wanted: UsageFilter, page: Page) -> list[DayFinding]:
        """Return what a person should know of bills, the newest day first."""
        with self._transactions.reading() as connection:
            return reports.read_findings(connection, wanted, page)

    def oldest_pending_day(self) -> date | None:
        """Return the first local day with an event whose cost is unknown."""
        with self._transactions.reading() as connection:
            return reports.read_oldest_pending(connection)

    def organization_keys(self) -> dict[str, str]:
        """Return organizations by the hash of their OpenRouter key."""
        with self._transactions.reading() as connection:
            return entries.read_keys(connection)

    def enter_key(self, organization_id: str, api_key_hash: str) -> None:
        """Let a key bill an organization. Raises ConfigError for one that is not known."""
        with self._transactions.writing() as connection:
            entries.enter_key(connection, organization_id, api_key_hash, self._clock.now())

    def remove_key(self, organization_id: str, api_key_hash: str) -> bool:
        """Take a key from an organization; False when it was not there."""
        with self._transactions.writing() as connection:
            return entries.remove_key(connection, organization_id, api_key_hash)

    def keep_manual_record(self, key: str, content_digest: str, event_json: str) -> str:
        """Keep a manual record under its key and return the one that counts: the first."""
        with self._transactions.writing() as connection:
            now = self._clock.now()
            return entries.keep_manual_record(connection, key, content_digest, event_json, now)

    def enter_rates(self, rates: Sequence[ExchangeRate]) -> int:
        """Enter rates, in the place of those of the same currency and day; return how many."""
        with self._transactions.writing() as connection:
            return entries.enter_rates(connection, rates, self._clock.now())

    def exchange_rates(self, currency: str) -> ExchangeRates:
        """Return all rates of a currency."""
        with self._transactions.reading() as connection:
            return ExchangeRates(entries.read_rates(connection, currency, None))

    def list_rates(self, currency: str | None, page: Page) -> list[ExchangeRate]:
        """Return rates, the newest day first."""
        with self._transactions.reading() as connection:
            return entries.read_rates(connection, currency, page)

    def ask_batch(self, start: date, end: date, allow_shrink: str | None) -> BatchRequest:
        """Write down that a projection was asked for."""
        with self._transactions.writing() as connection:
            return batches.insert_request(connection, start, end, allow_shrink, self._clock.now())

    def end_batch(self, request_id: int, counts: BatchCounts) -> None:
        """Write down how it ended."""
        with self._transactions.writing() as connection:
            batches.end_request(connection, request_id, counts, self._clock.now())

    def interrupt_batches(self) -> int:
        """Mark those as interrupted that a process left behind running; return how many."""
        with self._transactions.writing() as connection:
            return batches.interrupt_requests(connection, self._clock.now())

    def batch_requests(self, page: Page) -> list[BatchRequest]:
        """Return the newest first."""
        with self._transactions.reading() as connection:
            return batches.read_requests(connection, page)

    def prune_audit(self, before: datetime) -> int:
        """Delete records of runs that ended before an instant; corrections are kept for ever."""
        with self._transactions.writing() as connection:
            return batches.prune_audit(connection, before)

    def last_run(self, start: date, end: date) -> int:
        """Return the id of the newest run of these days, 0 without one: they change with it."""
        with self._transactions.reading() as connection:
            return batches.read_last_run(connection, start, end)

    def schema_is_current(self) -> bool:
        """Tell whether the schema is the one of this version."""
        with self._transactions.reading() as connection:
            return batches.is_current(connection)

    def close(self) -> None:
        """Close all connections."""
        self._transactions.close()
