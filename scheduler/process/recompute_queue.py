"""The recompute queue: requested projections, run one after the other in the background."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from threading import Event

from shared.core.days import ONE_DAY
from shared.errors import UsageError
from shared.projection.run_report import RunReport
from shared.summary_db.runs import BatchCounts, BatchRequest, Runs

log = logging.getLogger("owui_usage")

# Days projected between two checks of whether the sidecar must stop.
_DAYS_AT_ONCE = 7
_ERRORS_SHOWN = 3
Project = Callable[[date, date, str | None], RunReport]


class RecomputeQueue:
    """Runs requested projections; each is recorded before it begins and when it has ended."""

    def __init__(self, runs: Runs, project: Project, stop: Event) -> None:
        self._runs = runs
        self._project = project
        self._stop = stop
        self._pool = ThreadPoolExecutor(1, "owui-usage-batch")

    def enqueue(self, start: date, end: date, allow_shrink: str | None = None) -> BatchRequest:
        """Record a request and return it; it runs when those before it have ended."""
        request = self._runs.request(start, end, allow_shrink)
        self._pool.submit(self._run, request)
        return request

    def close(self) -> None:
        """Let the running request finish its current days; later ones are interrupted."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, request: BatchRequest) -> None:
        counted = _Counts()
        try:
            start = request.start
            while start <= request.end and not self._stop.is_set():
                end = min(start + (_DAYS_AT_ONCE - 1) * ONE_DAY, request.end)
                counted.add(self._project(start, end, request.allow_shrink))
                start = end + timedelta(days=1)
            if start > request.end:
                self._runs.end_request(request.request_id, counted.counts())
        except UsageError as error:
            self._fail(request, counted, str(error))
        except Exception as error:  # a job: its request must not stay open for ever
            log.exception("batch %d failed", request.request_id)
            self._fail(request, counted, type(error).__name__)

    def _fail(self, request: BatchRequest, counted: "_Counts", error: str) -> None:
        counted.errors.append(error)
        try:
            self._runs.end_request(request.request_id, counted.counts())
        except UsageError as also:
            log.error("batch %d could not be recorded: %s", request.request_id, also)


@dataclass
class _Counts:
    days: int = 0
    failed_days: int = 0
    rows_written: int = 0
    corrections: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, report: RunReport) -> None:
        self.days += len(report.outcomes)
        self.failed_days += len(report.failures)
        self.rows_written += report.rows_written
        self.corrections += report.corrections
        self.errors += [f"{each.day or 'no day'}: {each.error}" for each in report.failures]

    def counts(self) -> BatchCounts:
        shown = "; ".join(self.errors[:_ERRORS_SHOWN])
        more = len(self.errors) - _ERRORS_SHOWN
        return BatchCounts(
            days=self.days,
            failed_days=self.failed_days,
            rows_written=self.rows_written,
            corrections=self.corrections,
            error=(f"{shown}; and {more} more" if more > 0 else shown) or None,
        )
