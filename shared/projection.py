"""Projection: recomputing local days of summaries from the events, and replacing them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from shared.day_reader import DayReader, day_window, with_edges
from shared.domain.audit import Difference, find_differences
from shared.domain.days import ONE_DAY, ZoneDay
from shared.domain.run_report import DayOutcome, RunReport
from shared.errors import ConfigError, ProjectionError, UsageError, WouldShrink
from shared.ports import BUCKET, Clock, EventStore, Fingerprint, Window
from shared.ports_summary import DirtyDay, ProjectedDay, Summaries

log = logging.getLogger("owui_usage")
# Fingerprints of a long span are asked for in pieces, so that no answer is large.
_FINGERPRINT_SPAN = timedelta(days=32)
_NO_EVENTS = Fingerprint(0, 0, 0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """How to project: whether whole answers are billed, and how many days are read at once."""

    turns: Literal["bill", "observe"] = "bill"
    parallel_days: int = 1


class Projection:
    """Recomputes days of summaries from the event store; the same events give the same rows."""

    def __init__(
        self,
        store: EventStore,
        summaries: Summaries,
        settings: ProjectionSettings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._summaries = summaries
        self._settings = settings
        self._clock = clock
        self._reader = DayReader(store, settings.turns)

    def project_days(self, start: date, end: date, *, allow_shrink: str | None = None) -> RunReport:
        """Project the local days from `start` to `end`, both included, in every zone.

        A day that fails keeps its old summaries and is reported. `allow_shrink` is the reason why
        there may be fewer events than were known; it goes on record.
        """
        started_at = self._clock.now()
        try:
            days = self._days(start, end)
            observed = self._observe(_span(days))
            marked = {dirty.day: dirty for dirty in self._summaries.dirty_days()}
        except UsageError as error:
            return self._failed_run(started_at, error)
        work = [marked.get(day) or DirtyDay(day=day, mark_ids=(), reasons=()) for day in days]
        return self._project(work, observed, allow_shrink)

    def refresh(self, days_back: int, *, allow_shrink: str | None = None) -> RunReport:
        """Project the marked days, and those whose events changed in the last `days_back` days.

        While nothing changes, the event store is asked for fingerprints, unmetered rows and names.
        """
        started_at = self._clock.now()
        try:
            # Up to the end of today in every zone, wherever it ends last.
            span = Window(started_at - days_back * ONE_DAY, started_at + 2 * ONE_DAY)
            observed = self._observe(_to_buckets(span))
            for waiting in self._summaries.dirty_days():
                window = day_window(waiting.day)
                if not observed.covers(window):
                    observed = observed.joined(self._observe(with_edges(window)))
            self._summaries.store_users(self._store.users())
            marked = self._summaries.dirty_days()
        except UsageError as error:
            return self._failed_run(started_at, error)
        # A day marked just now, of which no fingerprint was read yet, has its turn next time.
        work = [dirty for dirty in marked if observed.covers(day_window(dirty.day))]
        return self._project(work, observed, allow_shrink)

    def verify(self, start: date, end: date) -> list[Difference]:
        """Recompute local days event by event and return where the stored summaries differ.

        Raises DeliveryError when the events cannot be read.
        """
        directory = self._summaries.directory()
        differences: list[Difference] = []
        for day in self._days(start, end):
            computed = self._reader.read(day, directory, event_by_event=True).facts
            differences.extend(find_differences(self._summaries.stored_day(day), computed))
        return differences

    def _days(self, start: date, end: date) -> list[ZoneDay]:
        if end < start:
            raise ConfigError("end", end, f"lies before the start, {start}")
        zones = self._summaries.directory().zones()
        dates = [start + number * ONE_DAY for number in range((end - start).days + 1)]
        return [ZoneDay(day, zone) for day in dates for zone in zones]

    def _observe(self, span: Window) -> "_Observed":
        """Read the fingerprints of a span and mark the days around every bucket that changed."""
        found: dict[datetime, Fingerprint] = {}
        start = span.start
        while start < span.end:
            end = min(start + _FINGERPRINT_SPAN, span.end)
            piece = Window(start, end)
            found.update(self._store.fingerprints(piece))
            rows = Counter(_bucket_start(row.occurred_at) for row in self._store.unmetered(piece))
            for bucket, unmetered in rows.items():
                found[bucket] = replace(found.get(bucket, _NO_EVENTS), unmetered=unmetered)
            start = end
        self._summaries.mark_changed(span, found)
        return _Observed([span], found)

    def _project(
        self, work: Sequence[DirtyDay], observed: "_Observed", allow_shrink: str | None
    ) -> RunReport:
        """Read days, several at once if so set, and replace them one after the other."""
        outcomes: list[DayOutcome] = []
        width = max(1, self._settings.parallel_days)
        with ThreadPoolExecutor(width, "owui-usage-projection") as pool:
            for first in range(0, len(work), width):
                readings = [
                    (dirty, pool.submit(self._read, dirty, observed, allow_shrink))
                    for dirty in work[first : first + width]
                ]
                outcomes.extend(self._replace(dirty, future) for dirty, future in readings)
        return RunReport(outcomes)

    def _read(
        self, dirty: DirtyDay, observed: "_Observed", allow_shrink: str | None
    ) -> ProjectedDay:
        started_at = self._clock.now()
        window = day_window(dirty.day)
        fingerprints = observed.of(window)
        # Read after the fingerprints: what arrives in between shows as a change next time.
        directory = self._summaries.directory()
        reading = self._reader.read(dirty.day, directory)
        known = sum(fingerprint.events for fingerprint in fingerprints.values())
        if reading.events_read < known and not allow_shrink:
            raise WouldShrink(f"{known} events were counted, {reading.events_read} could be read")
        return ProjectedDay(
            day=dirty.day,
            window=window,
            directory=directory,
            facts=reading.facts,
            fingerprints=fingerprints,
            mark_ids=dirty.mark_ids,
            why="; ".join(dirty.reasons),
            allow_shrink=allow_shrink,
            events_read=reading.events_read,
            was_resolved=reading.was_resolved,
            started_at=started_at,
        )

    def _replace(self, dirty: DirtyDay, reading: Future[ProjectedDay]) -> DayOutcome:
        started_at = self._clock.now()
        try:
            projected = reading.result()
            replacement = self._summaries.replace_day(projected)
        except UsageError as error:
            self._record_failure(dirty.day, started_at, error)
            return DayOutcome(day=dirty.day, error=error)
        return DayOutcome(
            day=dirty.day,
            events_read=projected.events_read,
            rows_written=replacement.rows_written,
            corrections=replacement.corrections,
            was_resolved=projected.was_resolved,
        )

    def _failed_run(self, started_at: datetime, error: UsageError) -> RunReport:
        self._record_failure(None, started_at, error)
        return RunReport([DayOutcome(day=None, error=error)])

    def _record_failure(self, day: ZoneDay | None, started_at: datetime, error: UsageError) -> None:
        """Keep the failure in the books and say it once in the log, not every minute."""
        sentence = f"{type(error).__name__}: {error}"
        try:
            attempts = self._summaries.record_failure(day, started_at, sentence)
        except ProjectionError as also:
            # Then the database of summaries is what failed, and only the log can say so.
            log.error("projection failed and could not be recorded: %s (%s)", sentence, also)
            return
        if attempts == 1:
            log.warning("projection of %s failed: %s", day or "any day", sentence)


@dataclass(frozen=True)
class _Observed:
    """The fingerprints of spans, as they were before any of their days was read."""

    spans: Sequence[Window]
    found: Mapping[datetime, Fingerprint]

    def covers(self, window: Window) -> bool:
        return any(span.start <= window.start and window.end <= span.end for span in self.spans)

    def joined(self, other: "_Observed") -> "_Observed":
        return _Observed([*self.spans, *other.spans], {**self.found, **other.found})

    def of(self, window: Window) -> dict[datetime, Fingerprint]:
        count = (window.end - window.start) // BUCKET
        buckets = (window.start + number * BUCKET for number in range(count))
        return {bucket: self.found[bucket] for bucket in buckets if bucket in self.found}


def _span(days: Sequence[ZoneDay]) -> Window:
    windows = [day_window(day) for day in days]
    start = min(window.start for window in windows)
    return with_edges(Window(start, max(window.end for window in windows)))


def _bucket_start(instant: datetime) -> datetime:
    return _EPOCH + (instant - _EPOCH) // BUCKET * BUCKET


def _to_buckets(span: Window) -> Window:
    """Widen a span to whole buckets, because a part of a bucket has a fingerprint of its own."""
    return Window(_bucket_start(span.start), _bucket_start(span.end + BUCKET))
