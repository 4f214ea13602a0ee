"""Marks: which days wait for a projection, and the fingerprints that tell when events changed."""

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


def mark_around(connection: Connection, buckets: Iterable[datetime], zones: Iterable[str]) -> None:
    """Mark every day of every zone within an hour of a bucket."""
    spans = [(bucket - _REACH, bucket + BUCKET + _REACH) for bucket in buckets]
    days = {
        ZoneDay(day, zone)
        for zone in zones
        for start, end in spans
        for day in days_of_span(start, end, zone)
    }
    mark(connection, days, NEW_EVENTS)


def mark(connection: Connection, days: Iterable[ZoneDay], reason: str) -> None:
    """Mark days for a reason.

    A mark that is there already is made anew: a run that has read the old one takes away that one
    alone, whatever it did not see stays marked.
    """
    marks = [
        {"local_date": day.local_date, "time_zone": day.time_zone, "reason": reason}
        for day in sorted(set(days))
    ]
    if not marks:
        return
    old = select(dirty_days.c.id, dirty_days.c.local_date, dirty_days.c.time_zone).where(
        dirty_days.c.reason == reason
    )
    again = {(each["local_date"], each["time_zone"]) for each in marks}
    remove_marks(connection, [row.id for row in connection.execute(old) if tuple(row[1:]) in again])
    connection.execute(insert(dirty_days), marks)


def remove_marks(connection: Connection, mark_ids: Iterable[int]) -> None:
    """Take marks away."""
    keys = [{"mark_id": mark_id} for mark_id in mark_ids]
    if keys:
        connection.execute(delete(dirty_days).where(dirty_days.c.id == bindparam("mark_id")), keys)


def read_dirty_days(connection: Connection) -> list[DirtyDay]:
    """Return the marked days, the oldest first."""
    marks: dict[ZoneDay, list[tuple[int, str]]] = {}
    for row in connection.execute(select(dirty_days).order_by(dirty_days.c.id)):
        day = ZoneDay(row.local_date, row.time_zone)
        marks.setdefault(day, []).append((row.id, row.reason))
    return [
        DirtyDay(
            day=day,
            mark_ids=tuple(mark_id for mark_id, _ in marks[day]),
            reasons=tuple(reason for _, reason in marks[day]),
        )
        for day in sorted(marks)
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
