"""Merging: what several event stores hold of a span of time, each event once."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from shared.core.event import UsageEvent
from shared.core.time import to_ms
from shared.event_store.port import BUCKET, EventStore, Window

_SPAN = timedelta(days=1)
_BUCKET_MS = BUCKET // timedelta(milliseconds=1)


def merged(
    stores: Sequence[EventStore], read: Callable[[EventStore], Iterator[UsageEvent]]
) -> Iterator[UsageEvent]:
    """Return the events of stores; one that an earlier store holds in the same bucket is left out.

    In the same bucket, so that this and the sums of whole buckets agree on what is counted.
    """
    if len(stores) == 1:
        yield from read(stores[0])
        return
    earlier: set[tuple[str, int]] = set()
    for store in stores:
        mine: set[tuple[str, int]] = set()
        for event in read(store):
            place = (event.event_id, to_ms(event.occurred_at) // _BUCKET_MS)
            if place not in earlier:
                mine.add(place)
                yield event
        earlier |= mine


def both_hold(held: Iterable[Collection[datetime]]) -> set[datetime]:
    """Return the buckets of which more than one store holds something."""
    counts = Counter(bucket for buckets in held for bucket in buckets)
    return {bucket for bucket, count in counts.items() if count > 1}


def joined_spans(buckets: set[datetime]) -> list[Window]:
    """Join buckets that touch to spans of at most a day, so that few events are held at once."""
    spans: list[Window] = []
    for bucket in sorted(buckets):
        if spans and spans[-1].end == bucket and bucket - spans[-1].start < _SPAN:
            spans[-1] = Window(spans[-1].start, bucket + BUCKET)
        else:
            spans.append(Window(bucket, bucket + BUCKET))
    return spans


def between(spans: Sequence[Window], window: Window) -> list[Window]:
    """Return what is left of a window between spans of it."""
    edges = [window.start, *(edge for span in spans for edge in (span.start, span.end)), window.end]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [Window(start, end) for start, end in pairs if start < end]


def clipped(span: Window, window: Window) -> Window:
    """Return the part of a span that lies in a window."""
    return Window(max(span.start, window.start), min(span.end, window.end))
