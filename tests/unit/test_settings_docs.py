"""The table of settings in the docs is the code's, name by name and default by default."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.core.money import PPM
from shared.settings import SECRETS, Settings

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| `([A-Z_]+)` \| (?:`([^`]*)`)? ?\| (.+) \|$", re.MULTILINE)
TABLE = {name: (default, text) for name, default, text in ROW.findall(
    (ROOT / "docs/settings.md").read_text()
)}  # fmt: skip
FIELDS = {name.upper(): field.default for name, field in Settings.model_fields.items()}


def written(default: Any) -> str:
    """Write a default as an admin would."""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None else str(default)


def test_every_setting_is_in_the_table_and_nothing_else() -> None:
    assert set(TABLE) == set(FIELDS)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_default_is_what_the_table_says(name: str) -> None:
    expected = {
        "USAGE_MARKUP_MULTIPLIER": str(FIELDS["USAGE_MARKUP_MULTIPLIER"] / PPM),
        "USAGE_DAILY_AT": f"{FIELDS['USAGE_DAILY_AT']:%H:%M}",
        "INFLUXDB_READ_TOKEN": "INFLUXDB_TOKEN",
    }.get(name, written(FIELDS[name]))
    assert TABLE[name][0] == expected


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_secrets_are_marked_and_only_they(name: str) -> None:
    assert ("*secret*" in TABLE[name][1]) == (name in SECRETS)
