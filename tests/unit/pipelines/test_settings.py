"""The plugin's settings: valves over environment over defaults, and no secret in the open."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipelines.src.settings import PluginSettings, read_settings
from pipelines.src.valves import FunctionValves, PipelineValves

HOME = Path("/var/lib/host/usage")
INFLUX = {
    "INFLUXDB_FIRST_ENABLED": "true",
    "INFLUXDB_URL": "http://influx:8086",
    "INFLUXDB_TOKEN": "s3cret",
    "INFLUXDB_ORG": "acme",
    "INFLUXDB_BUCKET": "usage",
}


def settings(environment: dict[str, str] | None = None, **valves: Any) -> PluginSettings:
    return read_settings(FunctionValves(**valves), environment or {}, HOME)


def test_without_any_setting_the_host_only_spools_beside_its_own_data() -> None:
    found = settings()
    assert (found.spool_dir, found.client_org_id) == (HOME, "unassigned")
    assert (found.spool_max_bytes, found.max_cost_usd) == (1_024_000_000, Decimal(10_000))
    assert (found.quiet_seconds, found.influx, found.problems) == (120, None, ())


def test_an_empty_valve_means_the_environment_and_a_set_one_wins() -> None:
    environment = {
        "USAGE_CLIENT_ORG": "acme",
        "USAGE_SPOOL_DIR": "/spool",
        "USAGE_SPOOL_MAX_MB": "5",
    }
    found = settings(environment, client_org=" ", spool_dir="", spool_max_mb=None)
    assert (found.client_org_id, found.spool_dir) == ("acme", Path("/spool"))
    assert found.spool_max_bytes == 5_000_000
    found = settings(environment, client_org="other", spool_max_mb="7")
    assert (found.client_org_id, found.spool_max_bytes) == ("other", 7_000_000)


def test_the_host_delivers_when_flag_address_and_token_are_there() -> None:
    found = settings(INFLUX)
    assert found.influx is not None
    assert (found.influx.url, found.influx.token) == ("http://influx:8086", "s3cret")
    assert (found.influx.org, found.influx.bucket) == ("acme", "usage")
    assert found.influx.measurement == "usage_events"


@pytest.mark.parametrize("missing", ["INFLUXDB_FIRST_ENABLED", "INFLUXDB_URL", "INFLUXDB_TOKEN"])
def test_the_host_does_not_deliver_when_one_of_them_is_missing(missing: str) -> None:
    environment = {name: value for name, value in INFLUX.items() if name != missing}
    assert settings(environment).influx is None
    assert settings(environment).problems == ()


@pytest.mark.parametrize("switch", [True, "true", "ON", "1", 1, "yes"])
def test_the_flag_is_on_however_it_is_spelled(switch: object) -> None:
    environment = INFLUX | {"INFLUXDB_FIRST_ENABLED": "false"}
    assert settings(environment, influxdb_first_enabled=switch).influx is not None


@pytest.mark.parametrize("switch", [False, "false", "off", "0", 0, "no"])
def test_the_flag_is_off_however_it_is_spelled(switch: object) -> None:
    assert settings(INFLUX, influxdb_first_enabled=switch).influx is None


def test_the_host_leaves_delivery_to_the_sidecar_when_set_so() -> None:
    assert settings(INFLUX | {"USAGE_DELIVER_FROM": "sidecar"}).influx is None
    assert settings(INFLUX, deliver_from="sidecar").influx is None
    assert settings(INFLUX | {"USAGE_DELIVER_FROM": "sidecar"}, deliver_from="host").influx


def test_the_cloud_has_its_own_address() -> None:
    cloud = {
        "INFLUXDB_USE_CLOUD": "true",
        "INFLUXDB_CLOUD_URL": "https://cloud",
        "INFLUXDB_CLOUD_TOKEN": "cloud-token",
        "INFLUXDB_CLOUD_ORG": "cloud-org",
        "INFLUXDB_CLOUD_BUCKET": "cloud-bucket",
    }
    found = settings(INFLUX | cloud)
    assert found.influx is not None
    assert (found.influx.url, found.influx.token) == ("https://cloud", "cloud-token")
    assert (found.influx.org, found.influx.bucket) == ("cloud-org", "cloud-bucket")


def test_the_token_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-a-file\n")
    environment = {name: value for name, value in INFLUX.items() if name != "INFLUXDB_TOKEN"}
    found = settings(environment | {"INFLUXDB_TOKEN_FILE": str(file)})
    assert found.influx is not None
    assert found.influx.token == "from-a-file"
    found = settings(environment | {"INFLUXDB_TOKEN_FILE": str(tmp_path / "none")})
    assert found.influx is None
    assert found.problems == ("INFLUXDB_TOKEN_FILE: cannot be read (FileNotFoundError)",)


def test_a_wrong_value_takes_its_default_and_is_named_with_its_place() -> None:
    found = settings({"USAGE_SPOOL_MAX_MB": "plenty"}, quiet_seconds="soon", max_cost_usd=-1)
    assert (found.spool_max_bytes, found.quiet_seconds) == (1_024_000_000, 120)
    assert found.max_cost_usd == Decimal(10_000)
    assert len(found.problems) == 3
    assert found.problems[0].startswith("max_cost_usd: ")
    assert "(got 'soon'), default used" in found.problems[1]
    assert found.problems[2].startswith("USAGE_SPOOL_MAX_MB in spool_max_mb: ")


def test_a_long_wrong_value_is_cut_and_a_secret_is_not_shown() -> None:
    valves = PipelineValves(pipelines="x" * 100, influxdb_token=["s3cret"], priority=10**400)
    assert valves.pipelines == ["*"]
    assert valves.priority == 0
    text = " ".join(valves.problems)
    assert "'" + "x" * 40 + "'" in text
    assert "s3cret" not in text
    assert "priority" in text


def test_a_token_is_in_no_repr() -> None:
    valves = FunctionValves(influxdb_token="s3cret")
    assert "s3cret" not in repr(valves) + str(valves)
    assert "s3cret" not in repr(settings(INFLUX))


def test_saved_valves_come_back_as_they_were() -> None:
    valves = PipelineValves(client_org="acme", spool_max_mb=7, pipelines=["a/b"], add_trace=True)
    assert PipelineValves(**valves.model_dump()) == valves
    assert PipelineValves(**PipelineValves().model_dump()) == PipelineValves()
