"""The plugin's settings: valves over environment over defaults, one frozen object."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pipelines.src.valves import UsageValves
from shared.core.event import UNASSIGNED
from shared.core.ids import clean_label
from shared.core.money import parse_usd
from shared.event_store.influx.write import InfluxSettings

# Valve -> environment variable. A token may come from a file whose path NAME_FILE holds.
_VARIABLES = {
    "client_org": "USAGE_CLIENT_ORG",
    "spool_dir": "USAGE_SPOOL_DIR",
    "spool_max_mb": "USAGE_SPOOL_MAX_MB",
    "deliver_from": "USAGE_DELIVER_FROM",
    "influxdb_first_enabled": "INFLUXDB_FIRST_ENABLED",
    "influxdb_url": "INFLUXDB_URL",
    "influxdb_token": "INFLUXDB_TOKEN",
    "influxdb_org": "INFLUXDB_ORG",
    "influxdb_bucket": "INFLUXDB_BUCKET",
    "influxdb_measurement": "INFLUXDB_MEASUREMENT",
    "influxdb_write_timeout": "INFLUXDB_WRITE_TIMEOUT",
    "influxdb_batch_size": "INFLUXDB_BATCH_SIZE",
    "influxdb_flush_interval": "INFLUXDB_FLUSH_INTERVAL",
}
_CLOUD_VALVES = ("influxdb_url", "influxdb_token", "influxdb_org", "influxdb_bucket")
_TOKEN_FILE_MAX = 8192


@dataclass(frozen=True, kw_only=True)
class PluginSettings:
    """`problems` are sentences about values that could not be used.

    `influx` is set when this host delivers; without it the rows wait for the sidecar.
    """

    client_org_id: str
    spool_dir: Path
    spool_max_bytes: int
    max_cost_usd: Decimal
    extra_connections: frozenset[str]
    user_directory: bool
    quiet_seconds: int
    answer_wait_seconds: int
    add_user: bool
    add_session_id: bool
    add_trace: bool
    influx: InfluxSettings | None
    batch_rows: int
    flush_seconds: float
    problems: tuple[str, ...]


def read_settings(
    valves: UsageValves, environment: Mapping[str, str], default_spool_dir: Path
) -> PluginSettings:
    """Merge valves and environment; no value of either makes this fail."""
    problems = list(valves.problems)
    effective = _over_environment(valves, environment, problems)
    return PluginSettings(
        client_org_id=clean_label(effective.client_org, UNASSIGNED),
        spool_dir=Path(effective.spool_dir).expanduser()
        if effective.spool_dir
        else default_spool_dir,
        spool_max_bytes=(effective.spool_max_mb or 1024) * 1_000_000,
        max_cost_usd=parse_usd(effective.max_cost_usd),
        extra_connections=frozenset(tag.strip() for tag in effective.extra_connections),
        user_directory=effective.user_directory,
        quiet_seconds=getattr(effective, "quiet_seconds", 120),
        answer_wait_seconds=effective.answer_wait_seconds,
        add_user=getattr(effective, "add_user", False),
        add_session_id=getattr(effective, "add_session_id", False),
        add_trace=getattr(effective, "add_trace", False),
        influx=_influx(effective),
        batch_rows=effective.influxdb_batch_size or 5000,
        flush_seconds=(effective.influxdb_flush_interval or 1000) / 1000,
        problems=tuple(problems),
    )


def _influx(valves: UsageValves) -> InfluxSettings | None:
    """Return where this host delivers, None unless it should and has an address and a token."""
    delivers = valves.influxdb_first_enabled == "on" and valves.deliver_from != "sidecar"
    if not (delivers and valves.influxdb_url and valves.influxdb_token):
        return None
    return InfluxSettings(
        url=valves.influxdb_url,
        token=valves.influxdb_token,
        org=valves.influxdb_org,
        bucket=valves.influxdb_bucket,
        measurement=valves.influxdb_measurement or "usage_events",
        write_timeout_ms=valves.influxdb_write_timeout or 2000,
    )


def _over_environment(
    valves: UsageValves, environment: Mapping[str, str], problems: list[str]
) -> UsageValves:
    """Fill the empty valves from the environment, checked by the same rules."""
    set_values = {
        name: value
        for name, value in valves.model_dump().items()
        if value not in (None, "", "environment")
    }
    filled = {
        name: _variable(name, environment, problems)
        for name in _VARIABLES
        if name not in set_values
    }
    effective = type(valves)(**{**filled, **set_values})
    problems.extend(
        f"{_VARIABLES.get(problem.split(':')[0], '')} in {problem}"
        for problem in effective.problems
    )
    return effective


def _variable(valve: str, environment: Mapping[str, str], problems: list[str]) -> str | None:
    name = _VARIABLES[valve]
    uses_cloud = environment.get("INFLUXDB_USE_CLOUD", "").strip().lower() in ("1", "true", "yes")
    if uses_cloud and valve in _CLOUD_VALVES:
        name = name.replace("INFLUXDB_", "INFLUXDB_CLOUD_")
    path = environment.get(f"{name}_FILE")
    if valve != "influxdb_token" or not path:
        return environment.get(name)
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(_TOKEN_FILE_MAX).strip()
    except (OSError, ValueError) as error:
        problems.append(f"{name}_FILE: cannot be read ({type(error).__name__})")
        return None
