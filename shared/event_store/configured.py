"""The event stores that the settings name, as one: the flags say which takes which events."""

from collections.abc import Sequence

from pydantic import SecretStr

from shared.delivery.port import EventSink
from shared.errors import ConfigError
from shared.event_store.combined.coverage import StoreCoverage
from shared.event_store.combined.store import CombinedStore
from shared.event_store.influx.store import InfluxStore
from shared.event_store.influx.write import InfluxSettings
from shared.event_store.port import EventStore
from shared.event_store.sqlite.store import EmbeddedStore
from shared.settings import Settings


class EventStores(CombinedStore):
    """The embedded store and InfluxDB, when it is configured: flags decide which is written to.

    INFLUXDB_FIRST_ENABLED decides for everything but the webhook, which has `webhook_sink`. A store
    that is not written to goes on being read, so that flags can be turned at any time. A write to
    InfluxDB may take at least `min_timeout_ms`. Raises ConfigError for a flag without the settings
    that it needs.
    """

    def __init__(self, settings: Settings, min_timeout_ms: int = 0) -> None:
        found = influx_of(settings, min_timeout_ms)
        self._embedded = EmbeddedStore(settings.usage_store_path)
        self._known = StoreCoverage(settings.usage_store_path)
        self._influx = InfluxStore(found) if found else None
        parts: list[EventStore] = [self._embedded]
        if self._influx is not None:
            parts.insert(0 if settings.influxdb_first_enabled else 1, self._influx)
        self.parts: Sequence[EventStore] = parts
        to_influx = self._influx if settings.webhook_to_influx else None
        self.webhook_sink: EventSink = to_influx or self._embedded
        written_to = {parts[0].name, self.webhook_sink.name}
        self.is_embedded_written_to = self._embedded.name in written_to
        super().__init__(parts, self._known, written_to=written_to)

    @property
    def uses_influx(self) -> bool:
        """Whether events may live in InfluxDB."""
        return self._influx is not None

    def erase_profile(self, user_id: str) -> None:
        """Delete every name of a user from InfluxDB. Raises DeliveryError when it cannot."""
        if self._influx is not None:
            self._influx.delete_profile(user_id)

    def close(self) -> None:
        """Close files and connections."""
        if self._influx is not None:
            self._influx.close()
        self._known.close()
        self._embedded.close()


def influx_of(settings: Settings, min_timeout_ms: int = 0) -> InfluxSettings | None:
    """Return where InfluxDB is, or None when it is not described and no flag needs it.

    Raises ConfigError with the name of what is missing while a flag needs it.
    """
    described = all(value for _, value in _place(settings))
    if not described and not (settings.influxdb_first_enabled or settings.webhook_to_influx):
        return None
    return influx_needed(settings, min_timeout_ms)


def influx_needed(settings: Settings, min_timeout_ms: int = 0) -> InfluxSettings:
    """Return where InfluxDB is. Raises ConfigError with the name of what is missing."""
    for variable, value in _place(settings):
        if not value:
            raise ConfigError(variable, "", "is needed to use InfluxDB")
    (_, url), (_, token), (_, bucket) = _place(settings)
    cloud = settings.influxdb_use_cloud
    return InfluxSettings(
        url=url,
        token=token,
        org=(settings.influxdb_cloud_org if cloud else settings.influxdb_org) or "-",
        bucket=bucket,
        measurement=settings.influxdb_measurement,
        write_timeout_ms=max(settings.influxdb_write_timeout, min_timeout_ms),
        read_token=_text(settings.influxdb_read_token),
    )


def _place(settings: Settings) -> list[tuple[str, str]]:
    """Return what describes a place in InfluxDB, each with the name of its variable."""
    prefix = "influxdb_cloud_" if settings.influxdb_use_cloud else "influxdb_"
    names = [prefix + part for part in ("url", "token", "bucket")]
    return [(name.upper(), _text(getattr(settings, name))) for name in names]


def _text(value: SecretStr | str | None) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value or ""
