"""The ledger that an import goes into: its event stores and its summaries, as the settings say."""

from collections.abc import Collection
from datetime import date
from typing import Self

from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.days import ONE_DAY
from shared.event_store.configured import EventStores
from shared.event_store.port import EventStore
from shared.projection.organization import OrganizationDefaults
from shared.projection.projection import Projection, ProjectionSettings
from shared.projection.run_report import RunReport
from shared.settings import Settings
from shared.summary_db.database import open_summaries

# A batch of an import is larger than one of a host, and blocks no user.
IMPORT_TIMEOUT_MS = 30_000


class Ledger:
    """Where usage is stored and summed up.

    `target` is the store that imports write to, by INFLUXDB_FIRST_ENABLED; `stores` are all stores
    that may hold events, `reading` combines them. Opening raises ConfigError for a setting, a file
    or a database that cannot be used.
    """

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings
        self.clock = clock
        self.reading = EventStores(settings, IMPORT_TIMEOUT_MS)
        self.stores = self.reading.parts
        self.target = self.stores[0]
        self.summaries = open_summaries(
            settings.usage_database_url.get_secret_value(),
            OrganizationDefaults(
                time_zone=settings.usage_timezone,
                currency=settings.usage_currency,
                rate_ppm=settings.usage_markup_multiplier,
            ),
            clock,
        )
        self.projection = Projection(
            self.reading,
            self.summaries.days,
            ProjectionSettings(turns=settings.usage_turns),
            clock,
        )

    def project(self, days: Collection[date], allow_shrink: str | None = None) -> RunReport:
        """Project the span of these local days, in all zones."""
        if not days:
            return RunReport()
        # A day of one zone touches the neighbouring dates of another.
        return self.projection.project_days(
            min(days) - ONE_DAY, max(days) + ONE_DAY, allow_shrink=allow_shrink
        )

    def store_named(self, name: str) -> EventStore | None:
        return next((store for store in self.stores if store.name == name), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reading.close()
        self.summaries.close()
