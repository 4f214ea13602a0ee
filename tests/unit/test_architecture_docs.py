"""The page about the architecture names what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
OURS = ("shared", "pipelines", "scheduler", "migration_tools", "demo", "tests", "docs")
PATHS = sorted(
    {path for path in re.findall(r"`([\w/]+(?:\.py|\.md)?)`", PAGE) if path.split("/")[0] in OURS}
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_it_draws_every_package() -> None:
    drawing = next(line for line in PAGE.splitlines() if line.startswith("    errors"))
    packages = {path.parent.name for path in (ROOT / "shared").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"\w+", drawing))


def test_it_explains_twenty_words() -> None:
    words = PAGE.split("## Twenty words")[1].split("\n## ")[0]
    assert len([line for line in words.splitlines() if line.startswith("| ")]) == 20 + 1
