"""The options of an import, and the source that they choose."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from pathlib import Path

from migration_tools.ledger import IMPORT_TIMEOUT_MS
from migration_tools.source import ENDLESS, EVER, DaySpan, Source
from migration_tools.sources.embedded import EmbeddedEvents
from migration_tools.sources.legacy.day import Rules
from migration_tools.sources.legacy.source import LegacySqlite
from migration_tools.sources.open_webui.source import OpenWebui
from migration_tools.sources.openrouter_csv import ActivityCsv
from migration_tools.sources.original_influx import MEASUREMENT, OriginalInflux
from shared.core.money import rate_ppm
from shared.errors import ConfigError, MigrationError, UnusableCost
from shared.event_store.configured import influx_needed
from shared.settings import Settings


class Kind(StrEnum):
    """The kinds of sources."""

    LEGACY = "legacy"
    EMBEDDED = "embedded"
    ORIGINAL_INFLUX = "original-influx"
    OPEN_WEBUI = "open-webui"
    CSV = "csv"


@dataclass(frozen=True, kw_only=True)
class Choices:
    kind: Kind = Kind.LEGACY
    location: str = ""
    start: date | None = None
    end: date | None = None
    accept_differences: bool = False
    raw_includes_markup: bool = False
    markup: str = ""

    @property
    def span(self) -> DaySpan:
        """The span of days, by default all days. Raises ConfigError for an empty span."""
        first = self.start or EVER
        last = self.end or ENDLESS
        if last < first:
            raise ConfigError("--end-date", last, f"lies before the start date, {first}")
        return DaySpan(first, last)


def open_source(choices: Choices, settings: Settings) -> Source:
    """Open the chosen source. Raises MigrationError when it cannot be read."""
    return _OPENERS[choices.kind](choices, settings)


def _legacy(choices: Choices, settings: Settings) -> Source:
    return LegacySqlite(
        Path(_database(choices.location).removeprefix("sqlite:///")),
        Rules(
            accept_differences=choices.accept_differences,
            raw_includes_markup=choices.raw_includes_markup,
        ),
        settings.usage_currency,
    )


def _embedded(choices: Choices, settings: Settings) -> Source:
    if not settings.influxdb_first_enabled:
        raise MigrationError(
            "the embedded store is where events go already: set INFLUXDB_FIRST_ENABLED=true"
        )
    path = Path(choices.location) if choices.location else settings.usage_store_path
    return EmbeddedEvents(path, settings.usage_timezone)


def _original_influx(choices: Choices, settings: Settings) -> Source:
    """Open `bucket:measurement`, either left out, on the server of the settings."""
    influx = influx_needed(settings, IMPORT_TIMEOUT_MS)
    bucket, _, measurement = choices.location.rpartition(":")
    rate = settings.usage_markup_multiplier
    if choices.markup:
        try:
            rate = rate_ppm(choices.markup)
        except UnusableCost as error:
            raise ConfigError("--markup", choices.markup, error.reason) from error
    return OriginalInflux(
        replace(influx, bucket=bucket or influx.bucket),
        settings.usage_timezone,
        rate,
        measurement or MEASUREMENT,
    )


def _open_webui(choices: Choices, settings: Settings) -> Source:
    url = _database(choices.location)
    return OpenWebui(url, settings.usage_timezone, settings.usage_client_org)


def _csv(choices: Choices, settings: Settings) -> Source:
    if not choices.location:
        raise ConfigError("--from", "", "names the CSV file")
    return ActivityCsv(Path(choices.location), settings.usage_timezone)


_OPENERS: Mapping[Kind, Callable[[Choices, Settings], Source]] = {
    Kind.LEGACY: _legacy,
    Kind.EMBEDDED: _embedded,
    Kind.ORIGINAL_INFLUX: _original_influx,
    Kind.OPEN_WEBUI: _open_webui,
    Kind.CSV: _csv,
}


def _database(location: str) -> str:
    """Return where Open WebUI's database is, by the environment of Open WebUI itself."""
    default = str(Path(os.environ.get("DATA_DIR", ".")) / "webui.db")
    return location or os.environ.get("DATABASE_URL", "") or default
