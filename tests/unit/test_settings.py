"""Settings: one door, every wrong value named, no secret shown."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.settings import Settings

Load = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    def from_environment(**environment: str) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Settings.load()

    return from_environment


def test_an_empty_environment_is_the_zero_infrastructure_default(load: Load) -> None:
    settings = load()
    assert not settings.influxdb_first_enabled
    assert settings.usage_markup_multiplier == 1_300_000
    assert settings.usage_timezone == "Europe/Warsaw"
    assert settings.usage_max_cost_usd == Decimal(10_000)


def test_an_empty_value_means_the_default(load: Load) -> None:
    assert load(USAGE_TIMEZONE="").usage_timezone == "Europe/Warsaw"


def test_a_set_value_is_read_by_its_name(load: Load) -> None:
    settings = load(INFLUXDB_FIRST_ENABLED="true", USAGE_DAILY_AT="06:30")
    assert settings.influxdb_first_enabled
    assert settings.usage_daily_at.isoformat() == "06:30:00"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("USAGE_TIMEZONE", "Europe/Warszawa"),
        ("USAGE_TIMEZONE", "../etc/passwd"),
        ("USAGE_MARKUP_MULTIPLIER", "thirty"),
        ("USAGE_MARKUP_MULTIPLIER", "-1"),
        ("INFLUXDB_BATCH_SIZE", "0"),
        ("INFLUXDB_FIRST_ENABLED", "perhaps"),
        ("USAGE_DELIVER_FROM", "moon"),
        ("USAGE_CURRENCY", "zloty"),
        ("USAGE_DAILY_AT", "25:00"),
        ("USAGE_MAX_COST_USD", "NaN"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_value(load: Load, name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**{name: value})
    assert caught.value.name == name
    assert value in str(caught.value)


def test_a_secret_may_come_from_a_file_and_is_never_shown(load: Load, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    settings = load(INFLUXDB_TOKEN_FILE=str(secret))
    assert settings.influxdb_token is not None
    assert settings.influxdb_token.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


def test_a_secret_file_that_cannot_be_read_is_named(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="INFLUXDB_TOKEN_FILE: cannot be read"):
        load(INFLUXDB_TOKEN_FILE=str(tmp_path / "nowhere"))


def test_settings_are_frozen(load: Load) -> None:
    with pytest.raises(Exception, match="frozen"):
        load().usage_timezone = "UTC"  # type: ignore[misc]
