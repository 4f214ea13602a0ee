"""Change scan: what the event store holds, by fingerprints, before any of its days is read."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.core.days import ZoneDay, day_start, days_of_span, split_span
from shared.core.time import EPOCH
from shared.errors import DeliveryError
from shared.event_store.port import BUCKET, EventStore, Fingerprint, Window
from shared.projection.port import Summaries

# Fingerprints of a long span are asked for in pieces, so that no answer is large.
_FINGERPRINT_SPAN = timedelta(days=32)
_NO_EVENTS = Fingerprint(0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class ChangeScan:
    """The fingerprints of spans, and which of their buckets had changed.

    `unread` are the windows of the spans whose fingerprints could not be read, and why.
    """

    spans: Sequence[Window]
    found: Mapping[datetime, Fingerprint]
    changed: frozenset[datetime] = frozenset()
    unread: Mapping[Window, DeliveryError] = field(default_factory=dict)

    def spans_all_of(self, window: Window) -> bool:
        """Tell whether the whole window was asked for."""
        return any(span.start <= window.start and window.end <= span.end for span in self.spans)

    def failure(self, window: Window) -> DeliveryError | None:
        """Return why a part of the window could not be read, or None when all of it was."""
        return next(
            (
                error
                for piece, error in self.unread.items()
                if piece.start < window.end and window.start < piece.end
            ),
            None,
        )

    def has_changed(self, window: Window) -> bool:
        """Tell whether a bucket of the window was not as stored."""
        return any(window.start <= bucket < window.end for bucket in self.changed)

    def joined(self, other: "ChangeScan") -> "ChangeScan":
        return ChangeScan(
            spans=[*self.spans, *other.spans],
            found={**self.found, **other.found},
            changed=self.changed | other.changed,
            unread={**self.unread, **other.unread},
        )

    def of(self, window: Window) -> dict[datetime, Fingerprint]:
        count = (window.end - window.start) // BUCKET
        buckets = (window.start + number * BUCKET for number in range(count))
        return {bucket: self.found[bucket] for bucket in buckets if bucket in self.found}

    def unread_days(self, zones: Iterable[str]) -> Iterator[ZoneDay]:
        """Return the local days that could not be read in full."""
        for zone in zones:
            for piece in self.unread:
                for day in days_of_span(piece.start, piece.end, zone):
                    yield ZoneDay(day, zone)


def scan_for_changes(store: EventStore, summaries: Summaries, span: Window) -> ChangeScan:
    """Read the fingerprints of a span and invalidate the days around every changed bucket.

    Where a store is away, from midnight to midnight: days of which it holds nothing are read all
    the same. Raises DeliveryError when nothing could be read.
    """
    read: dict[Window, dict[datetime, Fingerprint]] = {}
    unread: dict[Window, DeliveryError] = {}
    for piece in _pieces(span):
        try:
            read[piece] = _fingerprints(store, piece)
        except DeliveryError:
            for day in _at_midnights(piece, summaries.directory().zones()):
                try:
                    read[day] = _fingerprints(store, day)
                except DeliveryError as error:
                    unread[day] = error
    if unread and not read:
        raise next(iter(unread.values()))
    changed = [summaries.invalidate_changed(part, found) for part, found in read.items()]
    return ChangeScan(
        spans=[span],
        found={bucket: one for found in read.values() for bucket, one in found.items()},
        changed=frozenset().union(*changed),
        unread=unread,
    )


def to_buckets(span: Window) -> Window:
    """Widen a span to whole buckets, because a part of a bucket has a fingerprint of its own."""
    return Window(_bucket_start(span.start), _bucket_start(span.end + BUCKET))


def _fingerprints(store: EventStore, window: Window) -> dict[datetime, Fingerprint]:
    found = dict(store.fingerprints(window))
    rows = Counter(_bucket_start(row.occurred_at) for row in store.unmetered(window))
    for bucket, unmetered in rows.items():
        found[bucket] = replace(found.get(bucket, _NO_EVENTS), unmetered=unmetered)
    return found


def _pieces(span: Window) -> list[Window]:
    count = (span.end - span.start) // _FINGERPRINT_SPAN
    cuts = (span.start + number * _FINGERPRINT_SPAN for number in range(1, count + 1))
    return [Window(*part) for part in split_span(span.start, span.end, cuts)]


def _at_midnights(span: Window, zones: Iterable[str]) -> list[Window]:
    """Cut a span where a day of any zone begins, so that every day is made of whole parts."""
    midnights = (
        day_start(day, zone) for zone in zones for day in days_of_span(span.start, span.end, zone)
    )
    return [Window(*part) for part in split_span(span.start, span.end, midnights)]


def _bucket_start(instant: datetime) -> datetime:
    return EPOCH + (instant - EPOCH) // BUCKET * BUCKET
