"""The sidecar's settings: the environment, read once, checked, frozen."""

import os
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.core.money import parse_usd, rate_ppm
from shared.errors import ConfigError, UnusableCost

SECRETS = (
    "INFLUXDB_TOKEN",
    "INFLUXDB_READ_TOKEN",
    "INFLUXDB_CLOUD_TOKEN",
    "USAGE_DATABASE_URL",
    "USAGE_ADMIN_TOKEN",
    "USAGE_WEBHOOK_TOKEN",
    "USAGE_USER_TOKEN",
)
# How many hosts of a kind must be heard of: `any`, `none`, or such as `pipeline,function:2`.
_EXPECTED_HOSTS = (
    r"^(any|none|(function|pipeline)(:[1-9][0-9]?)?(,(function|pipeline)(:[1-9][0-9]?)?)*)$"
)


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("is no time zone, use a name such as Europe/Warsaw") from error
    return name


def _ppm(multiplier: object) -> int:
    try:
        return rate_ppm(multiplier)
    except UnusableCost as error:
        raise ValueError("must be a number from 0 with at most six decimals") from error


def _usd(value: object) -> Decimal:
    try:
        return parse_usd(value)
    except UnusableCost as error:
        raise ValueError("must be an amount of US dollars") from error


def _empty_is_unset(value: object) -> object:
    return None if value == "" else value


Zone = Annotated[str, AfterValidator(_known_zone)]
RatePpm = Annotated[int, BeforeValidator(_ppm)]
UsdLimit = Annotated[Decimal, BeforeValidator(_usd)]
Secret = Annotated[SecretStr | None, BeforeValidator(_empty_is_unset)]
Milliseconds = Annotated[int, Field(gt=0, le=600_000)]
UserCost = Literal["raw", "billed"]


class Settings(BaseSettings):
    """All settings of the sidecar, by the name of their environment variable in lower case.

    Secrets may come from a file instead: `NAME_FILE` holds its path.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, validate_default=False
    )

    influxdb_first_enabled: bool = False
    influxdb_first_mode: Annotated[bool | None, BeforeValidator(_empty_is_unset)] = None
    influxdb_url: str = ""
    influxdb_token: Secret = None
    influxdb_read_token: Secret = None
    influxdb_org: str = ""
    influxdb_bucket: str = ""
    influxdb_use_cloud: bool = False
    influxdb_cloud_url: str = ""
    influxdb_cloud_token: Secret = None
    influxdb_cloud_org: str = ""
    influxdb_cloud_bucket: str = ""
    influxdb_write_timeout: Milliseconds = 2000
    influxdb_batch_size: Annotated[int, Field(ge=1, le=5000)] = 5000
    influxdb_flush_interval: Milliseconds = 1000
    influxdb_aggregation_batch_size: Annotated[int, Field(ge=1, le=64)] = 5
    influxdb_measurement: str = "usage_events"
    usage_markup_multiplier: RatePpm = 1_300_000
    usage_client_org: str = "unassigned"
    usage_deliver_from: Literal["host", "sidecar"] = "host"
    usage_turns: Literal["bill", "observe"] = "bill"
    usage_spool_dir: Path = Path("var/spool")
    usage_spool_max_mb: Annotated[int, Field(ge=1)] = 1024
    usage_store_path: Path = Path("var/usage-events.sqlite3")
    usage_database_url: SecretStr = SecretStr("sqlite:///var/usage-summaries.sqlite3")
    usage_backup_dir: Path = Path("var/backups")
    usage_max_cost_usd: UsdLimit = Decimal(10_000)
    usage_quiet_seconds: Annotated[int, Field(ge=1, le=86_400)] = 120
    usage_timezone: Zone = "Europe/Warsaw"
    usage_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    usage_daily_at: time = time(13, 0)
    usage_refresh_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    usage_bind: str = "127.0.0.1"
    usage_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    usage_admin_token: Secret = None
    usage_webhook_token: Secret = None
    usage_user_token: Secret = None
    usage_user_cost: UserCost = "raw"
    usage_failures_per_minute: Annotated[int, Field(ge=1, le=10_000)] = 5
    usage_standby_seconds: Annotated[int, Field(ge=1, le=60)] = 10
    usage_expect_hosts: Annotated[str, Field(pattern=_EXPECTED_HOSTS)] = "any"
    usage_host_silent_seconds: Annotated[int, Field(ge=1, le=86_400)] = 50
    usage_backlog_seconds: Annotated[int, Field(ge=1, le=604_800)] = 300
    usage_open_webui_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    usage_audit_days: Annotated[int, Field(ge=1, le=36_500)] = 400

    @property
    def webhook_to_influx(self) -> bool:
        """Whether InfluxDB takes what the webhook books: its own flag, else that of all events."""
        mode = self.influxdb_first_mode
        return self.influxdb_first_enabled if mode is None else mode

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read secrets from their files first, then the environment, and nothing else."""
        return init_settings, _SecretFiles(settings_cls), env_settings

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises ConfigError with the name of the first wrong setting."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0]).upper()
            value = "***" if name in SECRETS else first["input"]
            raise ConfigError(name, value, first["msg"].removeprefix("Value error, ")) from None


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets by the path in `NAME_FILE`, as container platforms hand them over."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE") if field_name.upper() in SECRETS else ""
        return (
            (_read_secret(f"{field_name.upper()}_FILE", path) if path else None),
            field_name,
            False,
        )

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields.items()
        values = {name: self.get_field_value(field, name)[0] for name, field in fields}
        return {name: value for name, value in values.items() if value is not None}


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigError(name, path, f"cannot be read: {error.strerror}") from None
