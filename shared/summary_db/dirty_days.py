"""Dirty days: which days wait for a projection, and the fingerprints that show changed events."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, insert, select

from shared.core.days import ZoneDay, days_of_span
from shared.errors import WouldShrink
from shared.event_store.port import BUCKET, Fingerprint, Window
from shared.projection.port import DirtyDay
from shared.summary_db.schema import dirty_days, fingerprints

NEW_EVENTS = "events changed"
# An observation that arrives late may belong to a bill within an hour of it, on another day.
_REACH = timedelta(hours=1)
_NOTHING = Fingerprint(0, 0, 0)


def changed_buckets(
    connection: Connection, window: Window, found: Mapping[datetime, Fingerprint]
) -> list[datetime]:
    """Return the buckets of a window that do not hold what their stored fingerprint says."""
    known = _stored(connection, window)
    return sorted(
        bucket for bucket in known.keys() | found.keys() if known.get(bucket) != found.get(bucket)
    )


def invalidate_around(
    connection: Connection, buckets: Iterable[datetime], zones: Iterable[str]
) -> None:
    """Invalidate every day of every zone within an hour of a bucket."""
    spans = [(bucket - _REACH, bucket + BUCKET + _REACH) for bucket in buckets]
    days = {
        ZoneDay(day, zone)
        for zone in zones
        for start, end in spans
        for day in days_of_span(start, end, zone)
    }
    invalidate(connection, days, NEW_EVENTS)


def invalidate(connection: Connection, days: Iterable[ZoneDay], reason: str) -> None:
    """Invalidate days for a reason.

    An invalidation that is there already is made anew: a run that has read the old one removes that
    one alone, so that what it did not see is projected again.
    """
    waiting = [
        {"local_date": day.local_date, "time_zone": day.time_zone, "reason": reason}
        for day in sorted(set(days))
    ]
    if not waiting:
        return
    old = select(dirty_days.c.id, dirty_days.c.local_date, dirty_days.c.time_zone).where(
        dirty_days.c.reason == reason
    )
    again = {(each["local_date"], each["time_zone"]) for each in waiting}
    remove_invalidations(
        connection, [row.id for row in connection.execute(old) if tuple(row[1:]) in again]
    )
    connection.execute(insert(dirty_days), waiting)


def remove_invalidations(connection: Connection, invalidations: Iterable[int]) -> None:
    """Remove what a projection has taken care of."""
    keys = [{"invalidation": invalidation} for invalidation in invalidations]
    if keys:
        connection.execute(
            delete(dirty_days).where(dirty_days.c.id == bindparam("invalidation")), keys
        )


def read_dirty_days(connection: Connection) -> list[DirtyDay]:
    """Return the days that wait, the oldest first."""
    waiting: dict[ZoneDay, list[tuple[int, str]]] = {}
    for row in connection.execute(select(dirty_days).order_by(dirty_days.c.id)):
        day = ZoneDay(row.local_date, row.time_zone)
        waiting.setdefault(day, []).append((row.id, row.reason))
    return [
        DirtyDay(
            day=day,
            invalidations=tuple(invalidation for invalidation, _ in waiting[day]),
            reasons=tuple(reason for _, reason in waiting[day]),
        )
        for day in sorted(waiting)
    ]


def refuse_shrinking(
    connection: Connection, window: Window, found: Mapping[datetime, Fingerprint]
) -> None:
    """Raise WouldShrink when a bucket holds fewer events than its stored fingerprint.

    An expired, emptied or wrong bucket answers like a quiet one; only the count gives it away.
    """
    for bucket, stored in sorted(_stored(connection, window).items()):
        seen = found.get(bucket, _NOTHING).events
        if seen < stored.events:
            raise WouldShrink(
                f"the quarter of an hour from {bucket:%Y-%m-%d %H:%M} UTC held {stored.events} "
                f"events and now shows {seen}; say why with --allow-shrink if that is right"
            )


def store_fingerprints(
    connection: Connection, window: Window, found: Mapping[datetime, Fingerprint]
) -> None:
    """Make the stored fingerprints of a window those that were found."""
    changed = changed_buckets(connection, window, found)
    for bucket in changed:
        connection.execute(delete(fingerprints).where(fingerprints.c.bucket == bucket))
    rows = [_row(bucket, found[bucket]) for bucket in changed if bucket in found]
    if rows:
        connection.execute(insert(fingerprints), rows)


def _row(bucket: datetime, fingerprint: Fingerprint) -> dict[str, object]:
    return {
        "bucket": bucket,
        "events": fingerprint.events,
        "cost_pico_usd": fingerprint.cost_pico_usd,
        "total_tokens": fingerprint.total_tokens,
        "unmetered": fingerprint.unmetered,
    }


def _stored(connection: Connection, window: Window) -> dict[datetime, Fingerprint]:
    rows = connection.execute(
        select(fingerprints).where(
            fingerprints.c.bucket >= window.start, fingerprints.c.bucket < window.end
        )
    )
    return {
        row.bucket: Fingerprint(row.events, row.cost_pico_usd, row.total_tokens, row.unmetered)
        for row in rows
    }
