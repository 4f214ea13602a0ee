"""What a person enters: which key bills whom, and what a dollar was worth on a day."""

import re
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from shared.errors import ConfigError
from shared.summary_db.admin_schema import exchange_rates, manual_records, organization_keys
from shared.summary_db.exchange import ExchangeRate
from shared.summary_db.organizations import require
from shared.summary_db.port import Page

_HASH = re.compile(r"[0-9a-f]{8}")


def read_keys(connection: Connection) -> dict[str, str]:
    """Return organizations by the hash of their OpenRouter key."""
    rows = connection.execute(select(organization_keys).order_by(organization_keys.c.api_key_hash))
    return {row.api_key_hash: row.organization_id for row in rows}


def enter_key(
    connection: Connection, organization_id: str, api_key_hash: str, now: datetime
) -> None:
    """Let a key bill an organization, instead of the one it billed before."""
    if not _HASH.fullmatch(api_key_hash):
        raise ConfigError("api_key_hash", api_key_hash, "must be the first 8 hex digits of sha256")
    require(connection, organization_id)
    table = organization_keys
    connection.execute(delete(table).where(table.c.api_key_hash == api_key_hash))
    values = {"api_key_hash": api_key_hash, "organization_id": organization_id, "changed_at": now}
    connection.execute(insert(table), [values])


def remove_key(connection: Connection, organization_id: str, api_key_hash: str) -> bool:
    """Take a key from an organization; False when it was not there."""
    table = organization_keys
    removed = connection.execute(
        delete(table).where(
            table.c.api_key_hash == api_key_hash, table.c.organization_id == organization_id
        )
    )
    return removed.rowcount > 0


def keep_manual_record(
    connection: Connection, key: str, content_digest: str, event_json: str, now: datetime
) -> str:
    """Keep a manual record under its key and return the one that counts: the first.

    Raises ConfigError when the key was used for something else.
    """
    table = manual_records
    known = connection.execute(select(table).where(table.c.idempotency_key == key)).first()
    if known is None:
        values = {
            "idempotency_key": key,
            "content_digest": content_digest,
            "event_json": event_json,
            "recorded_at": now,
        }
        connection.execute(insert(table), [values])
        return event_json
    if known.content_digest != content_digest:
        raise ConfigError("idempotency_key", key, "was used before for something else")
    return str(known.event_json)


def enter_rates(connection: Connection, rates: Sequence[ExchangeRate], now: datetime) -> int:
    """Enter rates; the last of several for one currency and day counts."""
    table = exchange_rates
    newest = {(rate.currency, rate.local_date): rate for rate in rates}
    for currency, day in newest:
        connection.execute(
            delete(table).where(table.c.currency == currency, table.c.local_date == day)
        )
    values = [
        {
            "currency": rate.currency,
            "local_date": rate.local_date,
            "rate_nano": rate.rate_nano,
            "source": rate.source,
            "changed_at": now,
        }
        for rate in newest.values()
    ]
    if values:
        connection.execute(insert(table), values)
    return len(values)


def read_rates(
    connection: Connection, currency: str | None, page: Page | None
) -> list[ExchangeRate]:
    """Return rates, the newest day first."""
    table = exchange_rates
    query = select(table).order_by(table.c.local_date.desc(), table.c.currency)
    if currency is not None:
        query = query.where(table.c.currency == currency)
    if page is not None:
        query = query.limit(page.limit).offset(page.offset)
    return [
        ExchangeRate(
            currency=row.currency,
            local_date=row.local_date,
            rate_nano=row.rate_nano,
            source=row.source,
        )
        for row in connection.execute(query)
    ]
