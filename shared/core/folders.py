"""The folders that settings name."""

from pathlib import Path

from shared.errors import ConfigError


def make_folder(setting: str, folder: Path) -> None:
    """Make a folder and those above it. Raises ConfigError naming the setting when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(setting, folder, f"cannot be made: {error.strerror}") from None
