"""What a person enters: keys of organizations, exchange rates, manual records."""

import re
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import delete, insert, select

from shared.core.clock import Clock
from shared.errors import ConfigError
from shared.summary_db.engine import Transactions
from shared.summary_db.exchange import ExchangeRate, ExchangeRates
from shared.summary_db.organizations import require
from shared.summary_db.reports import Page
from shared.summary_db.schema import exchange_rates, manual_records, organization_keys

_HASH = re.compile(r"[0-9a-f]{8}")


class OrganizationKeys:
    """Which OpenRouter key bills which organization."""

    def __init__(self, db: Transactions, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def organizations(self) -> dict[str, str]:
        """Return organizations by the hash of their OpenRouter key."""
        query = select(organization_keys).order_by(organization_keys.c.api_key_hash)
        with self._db.reading() as connection:
            rows = connection.execute(query)
            return {row.api_key_hash: row.organization_id for row in rows}

    def enter(self, organization_id: str, api_key_hash: str) -> None:
        """Let a key bill an organization, instead of the one it billed before.

        Raises ConfigError for an organization that is not known.
        """
        if not _HASH.fullmatch(api_key_hash):
            reason = "must be the first 8 hex digits of sha256"
            raise ConfigError("api_key_hash", api_key_hash, reason)
        table = organization_keys
        values = {
            "api_key_hash": api_key_hash,
            "organization_id": organization_id,
            "changed_at": self._clock.now(),
        }
        with self._db.writing() as connection:
            require(connection, organization_id)
            connection.execute(delete(table).where(table.c.api_key_hash == api_key_hash))
            connection.execute(insert(table), [values])

    def remove(self, organization_id: str, api_key_hash: str) -> bool:
        """Take a key from an organization; False when it was not there."""
        columns = organization_keys.c
        same = (columns.api_key_hash == api_key_hash) & (columns.organization_id == organization_id)
        with self._db.writing() as connection:
            return connection.execute(delete(organization_keys).where(same)).rowcount > 0


class CurrencyRates:
    """Exchange rates as entered, by currency and day."""

    def __init__(self, db: Transactions, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def enter(self, rates: Sequence[ExchangeRate]) -> int:
        """Enter rates, in the place of those of the same currency and day; return how many.

        The last of several for one currency and day counts.
        """
        table = exchange_rates
        newest = {(rate.currency, rate.local_date): rate for rate in rates}
        now = self._clock.now()
        values = [asdict(rate) | {"changed_at": now} for rate in newest.values()]
        with self._db.writing() as connection:
            for currency, day in newest:
                same = (table.c.currency == currency) & (table.c.local_date == day)
                connection.execute(delete(table).where(same))
            if values:
                connection.execute(insert(table), values)
        return len(values)

    def of_currency(self, currency: str) -> ExchangeRates:
        """Return all rates of a currency."""
        return ExchangeRates(self.listed(currency, None))

    def listed(self, currency: str | None, page: Page | None) -> list[ExchangeRate]:
        """Return rates of one currency or all, the newest day first."""
        table = exchange_rates
        columns = (table.c.currency, table.c.local_date, table.c.rate_nano, table.c.source)
        query = select(*columns).order_by(table.c.local_date.desc(), table.c.currency)
        if currency is not None:
            query = query.where(table.c.currency == currency)
        if page is not None:
            query = query.limit(page.limit).offset(page.offset)
        with self._db.reading() as connection:
            return [ExchangeRate(**row._mapping) for row in connection.execute(query)]


class ManualRecords:
    """Events entered by hand, by their idempotency key."""

    def __init__(self, db: Transactions, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def keep(self, key: str, content_digest: str, event_json: str) -> str:
        """Keep a record under its key and return the event that counts: the first.

        Raises ConfigError when the key was used for something else.
        """
        table = manual_records
        with self._db.writing() as connection:
            known = connection.execute(select(table).where(table.c.idempotency_key == key)).first()
            if known is None:
                values = {
                    "idempotency_key": key,
                    "content_digest": content_digest,
                    "event_json": event_json,
                    "recorded_at": self._clock.now(),
                }
                connection.execute(insert(table), [values])
                return event_json
        if known.content_digest != content_digest:
            raise ConfigError("idempotency_key", key, "was used before for something else")
        return str(known.event_json)
