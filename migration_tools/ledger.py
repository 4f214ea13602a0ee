"""The ledger that an import goes into: its event stores and its summaries, as the settings say."""

from collections.abc import Sequence
from typing import Self

from shared.adapters.clock import SYSTEM_CLOCK
from shared.adapters.combined_store import CombinedStore
from shared.adapters.embedded_store import EmbeddedStore
from shared.adapters.holdings import Holdings
from shared.adapters.influx_read import InfluxStore
from shared.adapters.influx_write import InfluxSettings
from shared.adapters.summaries import open_summaries
from shared.domain.organization import OrganizationDefaults
from shared.errors import ConfigError
from shared.ports import Clock, EventStore
from shared.projection import Projection, ProjectionSettings
from shared.settings import Settings


class Ledger:
    """Where usage is written and summed up.

    `target` is the store that the flag decides for; `stores` are all that may hold events,
    `reading` the same as one. Opening raises ConfigError for a setting, a file or a database that
    cannot be used.
    """

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings
        self.clock = clock
        embedded = EmbeddedStore(settings.usage_store_path)
        self._holdings = Holdings(settings.usage_store_path)
        self._opened: list[EmbeddedStore | InfluxStore] = [embedded]
        if settings.influxdb_first_enabled or _names_influx(settings):
            influx = InfluxStore(influx_settings(settings))
            self._opened.insert(0 if settings.influxdb_first_enabled else 1, influx)
        self.stores: Sequence[EventStore] = self._opened
        self.target: EventStore = self._opened[0]
        self.reading: EventStore = CombinedStore(self._opened, self._holdings)
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
            self.summaries,
            ProjectionSettings(turns=settings.usage_turns),
            clock,
        )

    def store_named(self, name: str) -> EventStore | None:
        """Return the store of this name, if the settings name it."""
        return next((store for store in self.stores if store.name == name), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._opened:
            store.close()
        self._holdings.close()
        self.summaries.close()


def influx_settings(settings: Settings) -> InfluxSettings:
    """Return where InfluxDB is. Raises ConfigError when the settings do not say."""
    cloud = settings.influxdb_use_cloud
    prefix = "INFLUXDB_CLOUD_" if cloud else "INFLUXDB_"
    url = settings.influxdb_cloud_url if cloud else settings.influxdb_url
    token = settings.influxdb_cloud_token if cloud else settings.influxdb_token
    bucket = settings.influxdb_cloud_bucket if cloud else settings.influxdb_bucket
    for name, value in (("URL", url), ("TOKEN", token), ("BUCKET", bucket)):
        if not value:
            raise ConfigError(f"{prefix}{name}", "", "is needed to use InfluxDB")
    assert token is not None
    read = settings.influxdb_read_token
    return InfluxSettings(
        url=url,
        token=token.get_secret_value(),
        org=settings.influxdb_cloud_org if cloud else settings.influxdb_org,
        bucket=bucket,
        measurement=settings.influxdb_measurement,
        # A batch of an import is larger than what a host sends; nobody waits for it.
        write_timeout_ms=max(settings.influxdb_write_timeout, 30_000),
        read_token=read.get_secret_value() if read else "",
    )


def _names_influx(settings: Settings) -> bool:
    """Tell whether InfluxDB is set up although events do not go there now."""
    if settings.influxdb_use_cloud:
        return bool(settings.influxdb_cloud_url and settings.influxdb_cloud_token)
    return bool(settings.influxdb_url and settings.influxdb_token)
