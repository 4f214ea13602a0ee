"""Choices: what a person asked for, and the source that it means."""

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path

from migration_tools.source import EVER, DaySpan, Source
from migration_tools.sources.legacy_sqlite import LegacyChoices, LegacySqlite
from shared.errors import ConfigError
from shared.settings import Settings


class Kind(StrEnum):
    """The sources that usage can come from."""

    LEGACY = "legacy"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Which source, which days, and what a person decided about them."""

    kind: Kind = Kind.LEGACY
    location: str = ""
    start: date | None = None
    end: date | None = None
    accept_differences: bool = False
    raw_includes_markup: bool = False
    markup: str = ""

    @property
    def span(self) -> DaySpan:
        """The days asked for; without any, all of them. Raises ConfigError for an empty span."""
        first = self.start or EVER
        last = self.end or datetime.now(UTC).date()
        if last < first:
            raise ConfigError("--end-date", last, f"lies before the start date, {first}")
        return DaySpan(first, last)


def open_source(choices: Choices, settings: Settings) -> Source:
    """Open the source that was asked for. Raises MigrationError when it cannot be read."""
    return LegacySqlite(
        Path(_database_path(choices.location)),
        LegacyChoices(
            accept_differences=choices.accept_differences,
            raw_includes_markup=choices.raw_includes_markup,
            currency=settings.usage_currency,
        ),
    )


def _database_path(location: str) -> str:
    """Return where Open WebUI's database is, as Open WebUI itself is told."""
    found = location or os.environ.get("DATABASE_URL", "")
    if found:
        return found.removeprefix("sqlite:///")
    return str(Path(os.environ.get("DATA_DIR", ".")) / "webui.db")
