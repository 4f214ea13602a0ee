"""Which event stores the settings name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.event_store.configured import EventStores, influx_of
from shared.settings import Settings

Load = Callable[..., Settings]
INFLUX = {"INFLUXDB_URL": "http://127.0.0.1:1", "INFLUXDB_TOKEN": "s3cret", "INFLUXDB_BUCKET": "b"}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    def from_environment(**environment: str) -> Settings:
        monkeypatch.setenv("USAGE_STORE_PATH", str(tmp_path / "events.sqlite3"))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Settings.load()

    return from_environment


def test_without_a_word_on_influxdb_there_is_the_embedded_store_alone(load: Load) -> None:
    assert influx_of(load()) is None
    stores = EventStores(load())
    assert stores.name == "embedded"
    stores.close()


@pytest.mark.parametrize(("flag", "name"), [("true", "influxdb"), ("false", "embedded")])
def test_the_flag_decides_which_store_is_written_to(load: Load, flag: str, name: str) -> None:
    stores = EventStores(load(INFLUXDB_FIRST_ENABLED=flag, **INFLUX))
    assert stores.name == name
    stores.close()


@pytest.mark.parametrize("name", ["INFLUXDB_URL", "INFLUXDB_TOKEN", "INFLUXDB_BUCKET"])
def test_the_flag_without_what_it_needs_is_refused_by_name(load: Load, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        influx_of(load(INFLUXDB_FIRST_ENABLED="true", **(INFLUX | {name: ""})))
    assert caught.value.name == name
    assert "s3cret" not in str(caught.value)


def test_the_cloud_has_settings_of_its_own(load: Load) -> None:
    cloud = {f"INFLUXDB_CLOUD_{name.removeprefix('INFLUXDB_')}": name for name in INFLUX}
    found = influx_of(load(INFLUXDB_USE_CLOUD="true", **INFLUX, **cloud))
    assert found is not None
    assert (found.url, found.bucket) == ("INFLUXDB_URL", "INFLUXDB_BUCKET")


@pytest.mark.parametrize(
    ("flag", "mode", "sink", "embedded"),
    [
        ("true", "", "influxdb", False),
        ("false", "", "embedded", True),
        ("true", "false", "embedded", True),
        ("false", "true", "influxdb", True),
        ("true", "true", "influxdb", False),
    ],
)
def test_the_webhook_has_a_flag_of_its_own_that_follows_the_other_when_unset(
    load: Load, flag: str, mode: str, sink: str, embedded: bool
) -> None:
    stores = EventStores(load(INFLUXDB_FIRST_ENABLED=flag, INFLUXDB_FIRST_MODE=mode, **INFLUX))
    assert stores.name == ("influxdb" if flag == "true" else "embedded")
    assert stores.webhook_sink.name == sink
    assert stores.is_embedded_written_to == embedded
    stores.close()


def test_the_flag_of_the_webhook_needs_influxdb_too(load: Load) -> None:
    with pytest.raises(ConfigError, match="INFLUXDB_URL"):
        EventStores(load(INFLUXDB_FIRST_MODE="true"))
