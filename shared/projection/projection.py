"""Projection: recomputing local days of summaries from the events, and replacing them."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from shared.core.clock import Clock
from shared.core.days import ONE_DAY, ZoneDay
from shared.errors import ConfigError, DeliveryError, ProjectionError, UsageError, WouldShrink
from shared.event_store.port import EventStore, Window
from shared.projection.audit import Difference, find_differences
from shared.projection.change_scan import ChangeScan, scan_for_changes, to_buckets
from shared.projection.day_reader import DayReader, day_window, with_edges
from shared.projection.port import DirtyDay, ProjectedDay, Summaries
from shared.projection.run_report import DayOutcome, RunReport

log = logging.getLogger("owui_usage")


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
            scan = scan_for_changes(self._store, self._summaries, _span(days))
            dirty_days = {dirty.day: dirty for dirty in self._summaries.dirty_days()}
        except UsageError as error:
            return self._failed_run(started_at, error)
        work = [
            dirty_days.get(day) or DirtyDay(day=day, invalidations=(), reasons=()) for day in days
        ]
        lost = self._unread(days, scan, started_at)
        return RunReport([*lost, *self._project(work, scan, allow_shrink)])

    def refresh(self, days_back: int, *, allow_shrink: str | None = None) -> RunReport:
        """Project the dirty days, and those whose events changed in the last `days_back` days.

        While nothing changes, the event store is asked for fingerprints, unmetered rows and names.
        """
        started_at = self._clock.now()
        try:
            # Up to the end of today in every zone, wherever it ends last.
            span = Window(started_at - days_back * ONE_DAY, started_at + 2 * ONE_DAY)
            scan = scan_for_changes(self._store, self._summaries, to_buckets(span))
            for dirty in self._summaries.dirty_days():
                window = day_window(dirty.day)
                if not scan.spans_all_of(window):
                    scan = scan.joined(self._scan_waiting(window))
            self._summaries.store_users(self._store.users())
            waiting = self._summaries.dirty_days()
            zones = self._summaries.directory().zones()
        except UsageError as error:
            return self._failed_run(started_at, error)
        # A day invalidated just now, of which no fingerprint was read yet, has its turn next time.
        work = [dirty for dirty in waiting if scan.spans_all_of(day_window(dirty.day))]
        days = {*scan.unread_days(zones), *(dirty.day for dirty in work)}
        lost = self._unread(sorted(days), scan, started_at)
        return RunReport([*lost, *self._project(work, scan, allow_shrink)])

    def verify(self, start: date, end: date) -> list[Difference]:
        """Return all `differences`."""
        return list(self.differences(start, end))

    def differences(self, start: date, end: date) -> Iterator[Difference]:
        """Recompute local days event by event and tell where the stored summaries differ.

        One day is in memory at a time. Raises DeliveryError when the events cannot be read.
        """
        directory = self._summaries.directory()
        for day in self._days(start, end):
            computed = self._reader.read(day, directory, event_by_event=True).facts
            yield from find_differences(self._summaries.stored_day(day), computed)

    def _days(self, start: date, end: date) -> list[ZoneDay]:
        if end < start:
            raise ConfigError("end", end, f"lies before the start, {start}")
        zones = self._summaries.directory().zones()
        dates = [start + number * ONE_DAY for number in range((end - start).days + 1)]
        return [ZoneDay(day, zone) for day in dates for zone in zones]

    def _scan_waiting(self, window: Window) -> ChangeScan:
        """Scan a dirty day; one that cannot be read now goes on waiting."""
        try:
            return scan_for_changes(self._store, self._summaries, with_edges(window))
        except DeliveryError as error:
            return ChangeScan(spans=[window], found={}, unread={window: error})

    def _unread(
        self, days: Sequence[ZoneDay], scan: ChangeScan, started_at: datetime
    ) -> list[DayOutcome]:
        """Record the days of which an unavailable store may hold events; they stay as they are."""
        lost: dict[str, list[ZoneDay]] = {}
        outcomes: list[DayOutcome] = []
        for day in days:
            error = scan.failure(day_window(day))
            if error is not None:
                lost.setdefault(_describe(error), []).append(day)
                outcomes.append(DayOutcome(day=day, error=error))
        for message, days_lost in lost.items():
            self._record_failure(days_lost, started_at, message)
        return outcomes

    def _project(
        self, work: Sequence[DirtyDay], scan: ChangeScan, allow_shrink: str | None
    ) -> list[DayOutcome]:
        """Read days, several at once if so set, and replace them one after the other."""
        outcomes: list[DayOutcome] = []
        work = [dirty for dirty in work if scan.failure(day_window(dirty.day)) is None]
        width = max(1, self._settings.parallel_days)
        with ThreadPoolExecutor(width, "owui-usage-projection") as pool:
            for first in range(0, len(work), width):
                readings = [
                    (dirty, pool.submit(self._read, dirty, scan, allow_shrink))
                    for dirty in work[first : first + width]
                ]
                outcomes.extend(self._replace(dirty, future) for dirty, future in readings)
        return outcomes

    def _read(self, dirty: DirtyDay, scan: ChangeScan, allow_shrink: str | None) -> ProjectedDay:
        started_at = self._clock.now()
        window = day_window(dirty.day)
        fingerprints = scan.of(window)
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
            invalidations=() if self._may_be_torn(window, scan) else dirty.invalidations,
            why="; ".join(dirty.reasons),
            allow_shrink=allow_shrink,
            events_read=reading.events_read,
            was_resolved=reading.was_resolved,
            started_at=started_at,
        )

    def _may_be_torn(self, window: Window, scan: ChangeScan) -> bool:
        """Tell whether a day may have been read while it was being written.

        The fingerprint need not change once the rest of the fields shows. So what has just changed
        keeps its invalidation, and is read again when it is at rest.
        """
        return not self._store.shows_batches_whole and scan.has_changed(with_edges(window))

    def _replace(self, dirty: DirtyDay, reading: Future[ProjectedDay]) -> DayOutcome:
        started_at = self._clock.now()
        try:
            projected = reading.result()
            replacement = self._summaries.replace_day(projected)
        except UsageError as error:
            self._record_failure([dirty.day], started_at, _describe(error))
            return DayOutcome(day=dirty.day, error=error)
        return DayOutcome(
            day=dirty.day,
            events_read=projected.events_read,
            rows_written=replacement.rows_written,
            corrections=replacement.corrections,
            was_resolved=projected.was_resolved,
        )

    def _failed_run(self, started_at: datetime, error: UsageError) -> RunReport:
        self._record_failure([None], started_at, _describe(error))
        return RunReport([DayOutcome(day=None, error=error)])

    def _record_failure(
        self, days: Sequence[ZoneDay | None], started_at: datetime, message: str
    ) -> None:
        """Record the failure, and log it once, not every minute."""
        try:
            attempts = [self._summaries.record_failure(day, started_at, message) for day in days]
        except ProjectionError as also:
            # Then the database of summaries is what failed, and only the log can tell.
            log.error("projection failed and could not be recorded: %s (%s)", message, also)
            return
        new = [day for day, count in zip(days, attempts, strict=True) if count == 1]
        if new:
            more = f" and {len(new) - 1} other days" if len(new) > 1 else ""
            log.warning("projection of %s%s failed: %s", new[0] or "any day", more, message)


def _describe(error: UsageError) -> str:
    return f"{type(error).__name__}: {error}"


def _span(days: Sequence[ZoneDay]) -> Window:
    windows = [day_window(day) for day in days]
    start = min(window.start for window in windows)
    return with_edges(Window(start, max(window.end for window in windows)))
