"""The event stores that the settings name, as one: the flag says which is written to."""

from pydantic import SecretStr

from shared.adapters.combined_store import CombinedStore
from shared.adapters.embedded_store import EmbeddedStore
from shared.adapters.holdings import Holdings
from shared.adapters.influx_read import InfluxStore
from shared.adapters.influx_write import InfluxSettings
from shared.errors import ConfigError
from shared.ports import EventStore
from shared.settings import Settings


class EventStores(CombinedStore):
    """The embedded store and InfluxDB, when it is configured: the flag decides which is written.

    The other one goes on being read, so that the flag can be turned at any time. Raises
    ConfigError for a flag without the settings that it needs.
    """

    def __init__(self, settings: Settings) -> None:
        self._embedded = EmbeddedStore(settings.usage_store_path)
        self._known = Holdings(settings.usage_store_path)
        influx_settings = influx_of(settings)
        self._influx = InfluxStore(influx_settings) if influx_settings else None
        stores: list[EventStore] = [self._embedded]
        if self._influx is not None:
            stores.insert(0 if settings.influxdb_first_enabled else 1, self._influx)
        super().__init__(stores, self._known)

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


def influx_of(settings: Settings) -> InfluxSettings | None:
    """Return where InfluxDB is, or None when nothing is said of it and the flag is off."""
    cloud = "cloud_" if settings.influxdb_use_cloud else ""
    url, token, org, bucket = (
        _text(getattr(settings, f"influxdb_{cloud}{name}"))
        for name in ("url", "token", "org", "bucket")
    )
    for name, value in (("url", url), ("token", token), ("bucket", bucket)):
        if not value and settings.influxdb_first_enabled:
            variable = f"INFLUXDB_{cloud}{name}".upper()
            raise ConfigError(variable, "", "is needed while INFLUXDB_FIRST_ENABLED is true")
    if not url or not token or not bucket:
        return None
    return InfluxSettings(
        url=url,
        token=token,
        org=org or "-",
        bucket=bucket,
        measurement=settings.influxdb_measurement,
        write_timeout_ms=settings.influxdb_write_timeout,
        read_token=_text(settings.influxdb_read_token),
    )


def _text(value: SecretStr | str | None) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value or ""
