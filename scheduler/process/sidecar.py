"""The composition root: settings become one sidecar, with its stores, its drain, its projection."""

import logging
from datetime import date
from threading import Event, Lock
from typing import Self

from scheduler.process.drain import Drain, DrainSettings
from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.days import ONE_DAY
from shared.core.folders import make_folder
from shared.delivery.delivery import DeliveryPolicy
from shared.event_store.configured import EventStores
from shared.projection.audit import Difference
from shared.projection.organization import OrganizationDefaults
from shared.projection.projection import Projection, ProjectionSettings
from shared.projection.run_report import RunReport
from shared.settings import Settings
from shared.spool.sqlite_spool import SpoolSettings
from shared.summary_db.database import SummaryDatabase, open_summaries

log = logging.getLogger("owui_usage")

# What the webhook takes waits in a spool of its own: a setting may send it to another store.
WEBHOOK_SPOOL = "webhook.sqlite3"
# A sidecar that is killed must not keep the next one from its spools for a minute.
_LEASE_SECONDS = 20.0
# How far back health warns that answers and their generations may both have been billed.
_MIXED_DAYS = 7


class Sidecar:
    """The parts of a sidecar wired together; jobs and commands call these methods.

    Opening raises ConfigError for a file or database that cannot be used.
    """

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings
        self.stop = Event()
        make_folder("USAGE_SPOOL_DIR", settings.usage_spool_dir)
        make_folder("USAGE_STORE_PATH", settings.usage_store_path.parent)
        self.store = EventStores(settings)
        self.summaries = open_database(settings, clock)
        self._drain = Drain(
            DrainSettings(
                folder=settings.usage_spool_dir,
                spool=spool_settings(settings),
                quiet_seconds=settings.usage_quiet_seconds,
                sinks={WEBHOOK_SPOOL: self.store.webhook_sink},
            ),
            self.store,
            clock,
            DeliveryPolicy(batch_rows=settings.influxdb_batch_size, lease_seconds=_LEASE_SECONDS),
            self.stop,
        )
        self._projection = Projection(
            self.store,
            self.summaries.days,
            ProjectionSettings(
                turns=settings.usage_turns,
                parallel_days=settings.influxdb_aggregation_batch_size,
            ),
            clock,
        )
        # Two jobs may fall on the same minute; days are projected by one of them at a time.
        self._projecting = Lock()
        # The schedule drains, and so do commands and erasure that need empty spools first.
        self._draining = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def drain(self) -> None:
        with self._draining:
            results = self._drain.run()
        for name, result in results.items():
            if result.accepted or result.rejected:
                log.info(
                    "spool %s: %d rows delivered, %d refused, %d wait",
                    name,
                    result.accepted,
                    result.rejected,
                    result.kept,
                )

    def refresh(self, days_back: int) -> RunReport:
        """Project the days of the last `days_back` days whose events changed."""
        with self._projecting:
            return _logged(self._projection.refresh(days_back))

    def project(self, start: date, end: date, allow_shrink: str | None = None) -> RunReport:
        """Project the local days from `start` to `end`, whether they changed or not."""
        with self._projecting:
            return _logged(self._projection.project_days(start, end, allow_shrink=allow_shrink))

    def verify(self, start: date, end: date) -> list[Difference]:
        """Recompute days from the events and return where the summaries differ."""
        return self._projection.verify(start, end)

    def mixed_days(self, today: date) -> list[date]:
        """Return the days of the last week that `UsageReports.mixed_days` doubts."""
        if self.settings.usage_turns == "observe":
            return []
        return self.summaries.reports.mixed_days(today - _MIXED_DAYS * ONE_DAY, today + ONE_DAY)

    def close(self) -> None:
        """End waits, give up leases, close files; what was not delivered stays in the spools."""
        self.stop.set()
        self._drain.close()
        self.store.close()
        self.summaries.close()


def spool_settings(settings: Settings) -> SpoolSettings:
    return SpoolSettings(
        max_bytes=settings.usage_spool_max_mb * 1024**2,
        max_cost_usd=settings.usage_max_cost_usd,
    )


def open_database(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> SummaryDatabase:
    defaults = OrganizationDefaults(
        time_zone=settings.usage_timezone,
        currency=settings.usage_currency,
        rate_ppm=settings.usage_markup_multiplier,
    )
    return open_summaries(settings.usage_database_url.get_secret_value(), defaults, clock)


def _logged(report: RunReport) -> RunReport:
    if report.rows_written or report.corrections:
        log.info("projected: %d rows, %d corrections", report.rows_written, report.corrections)
    return report
