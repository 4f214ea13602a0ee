"""The version of everything built here: the first heading of CHANGELOG.md."""

import re
from pathlib import Path

_CHANGELOG = Path(__file__).resolve().parents[2] / "CHANGELOG.md"


def read_version(changelog: Path = _CHANGELOG) -> str:
    """Return the version, `unknown` where the file is missing."""
    try:
        found = re.search(r"^## (\S+)", changelog.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return "unknown"
    return found[1] if found else "unknown"
