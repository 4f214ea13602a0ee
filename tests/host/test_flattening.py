"""The flattener: what it writes, and each rule it holds the sources to."""

from pathlib import Path

import pytest

from pipelines.bundler.__main__ import (
    ROOT,
    TARGET,
    flatten,
    main,
    modules_in_order,
    released_version,
)
from pipelines.bundler.source_module import FlatteningRefused

ENTRIES_OF_TESTS = ("TWO", "total", "VERSION")


class Tree:
    """A small project of the form of this one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write(
            "shared/money.py", '"""Money."""\n\nfrom decimal import Decimal\n\nONE = Decimal(1)\n'
        )
        self.write(
            "shared/plugin.py",
            '"""The plugin."""\n\nfrom shared.money import ONE\n\nTWO = ONE + ONE\n',
        )

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def plugin(self, *lines: str) -> None:
        """Write the plugin's module: its docstring, a blank line, these lines."""
        self.write("shared/plugin.py", "\n".join(['"""The plugin."""', "", *lines, ""]))

    def flatten(self, *entry_classes: str) -> str:
        modules = modules_in_order(["shared.plugin"], self.root)
        return flatten(modules, "1.2.3", entry_classes or ENTRIES_OF_TESTS)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_committed_file_is_the_one_its_sources_make() -> None:
    assert main(["--check"]) == 0


def test_check_fails_for_a_stale_file_and_passes_for_a_fresh_one(tmp_path: Path) -> None:
    for folder in ("pipelines/src", "shared"):
        for source in (ROOT / folder).rglob("*.py"):
            copy = tmp_path / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    (tmp_path / "CHANGELOG.md").write_bytes((ROOT / "CHANGELOG.md").read_bytes())
    assert main(["--check"], tmp_path) == 1
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    with (tmp_path / TARGET).open("a") as file:
        file.write("# touched\n")
    assert main(["--check"], tmp_path) == 1


def test_modules_stand_in_the_order_of_their_need_with_imports_merged_on_top(tree: Tree) -> None:
    tree.plugin("import os", OURS, "", "TWO = ONE + len(os.sep)")
    text = tree.flatten()
    order = [
        "import os\n",
        "from decimal import Decimal\n",
        "# shared/money.py",
        "ONE = ",
        "# shared/plugin.py",
        "TWO = ",
    ]
    positions = [text.index(part) for part in order]
    assert positions == sorted(positions)
    assert "shared.money" not in text
    namespace: dict[str, object] = {}
    exec(text, namespace)  # noqa: S102 it is what a host does
    assert namespace["TWO"] == 2


def test_comments_docstrings_and_the_words_of_a_module_are_kept(tree: Tree) -> None:
    code = ["# why", "TWO = 2  # because", "", "", "def total() -> int:", '    """Say it."""']
    words = ['"""The plugin.', "", "Second paragraph.", '"""', ""]
    tree.write("shared/plugin.py", "\n".join([*words, *code, "    return TWO", ""]))
    text = tree.flatten()
    for kept in (
        "# The plugin.\n#\n# Second paragraph.\n",
        "# why\nTWO = 2  # because\n",
        '    """Say it."""\n',
    ):
        assert kept in text


def test_what_the_entries_do_not_reach_is_left_out_with_its_comments(tree: Tree) -> None:
    unused = ["# spare", "@cache", "def spare() -> int:", "    return Decimal(THREE)"]
    used = ["# of TWO", "HALF = ONE / 2", "", "", "def total() -> int:", "    return HALF"]
    tree.plugin("from functools import cache", OURS, "", "THREE = 3", *unused, "", "", *used)
    text = tree.flatten("total")
    assert "# of TWO\nHALF = ONE / 2\n" in text
    assert "from decimal import Decimal\n" in text
    for left_out in ("THREE", "spare", "cache"):
        assert left_out not in text


def test_a_module_of_which_nothing_is_reached_leaves_no_trace(tree: Tree) -> None:
    tree.plugin(OURS, "", "THREE = 3", "", "", "def total() -> int:", "    return THREE")
    assert "decimal" not in tree.flatten("total")
    assert "shared/money.py" not in tree.flatten("total")


def test_a_line_that_several_modules_share_stands_once(tree: Tree) -> None:
    line = 'logger = logging.getLogger("owui_usage")\n'
    tree.write("shared/money.py", f'"""Money."""\n\nimport logging\n\n{line}\nONE = 1\n')
    tree.plugin("import logging", "", OURS, "", f"{line}", "TWO = logger, ONE")
    assert tree.flatten().count(line) == 1


def test_the_version_is_written_where_the_plugin_reads_it(tree: Tree) -> None:
    tree.write("shared/plugin.py", '"""The plugin."""\n\nVERSION = "0.0.0+source"\n')
    text = tree.flatten()
    assert 'VERSION = "1.2.3"\n' in text
    assert "\nversion: 1.2.3\n" in text


@pytest.mark.parametrize(
    ("heading", "version"),
    [
        ("## 0.1.0 - unreleased", "0.1.0"),
        ("## [2.3.4] - 2026-11-24", "2.3.4"),
        ("# v1.0.0-rc.1", "1.0.0-rc.1"),
    ],
)
def test_the_version_is_the_first_that_a_heading_of_the_changelog_names(
    tmp_path: Path, heading: str, version: str
) -> None:
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\n## 0.0.1\n")
    assert released_version(tmp_path) == version


def test_a_changelog_without_a_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n")
    with pytest.raises(FlatteningRefused, match=r"CHANGELOG.md:1: no heading names a version"):
        released_version(tmp_path)


OURS = "from shared.money import ONE"
BREACHES = {
    "a renamed name": ([f"{OURS} as EINS"], 3, "unrenamed"),
    "a whole module of ours": (["import shared.money"], 3, "from module import Name"),
    "a package of ours": (["import shared"], 3, "from module import Name"),
    "a relative import": (["from .money import ONE"], 3, "absolute"),
    "everything": (["from decimal import *"], 3, "every imported name is written out"),
    "ours inside a function": (["def late() -> None:", f"    {OURS}"], 4, "top level only"),
    "a future import": (["from __future__ import annotations"], 3, "no future import"),
    "an import in a try": (
        ["try:", "    import orjson", "except ImportError:", "    pass"],
        3,
        "if, try or with",
    ),
    "an import in an if": (["import sys", "if sys.path:", "    import a"], 4, "if, try or with"),
    "text that is not ASCII": (["# 20 \N{EURO SIGN}"], 3, "ASCII"),
    "the file's own name": (["HERE = __file__"], 3, "__file__ is the host's"),
    "the module's own name": (["NAME = __name__"], 3, "__name__ is the host's"),
    "a class the host would take": (["class Event:", "    pass"], 3, "top-level Event"),
    "a hidden builtin": (["def open() -> None: ..."], 3, "hide the builtin"),
    "one name with two meanings": (
        [OURS, "", "Decimal = float(ONE)"],
        5,
        "Decimal already means something else in shared/money.py",
    ),
    "an import with two meanings": (
        [OURS, "from fractions import Fraction as Decimal"],
        4,
        "Decimal already means something else in shared/money.py",
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_refused_with_the_file_the_line_and_the_rule(tree: Tree, breach: str) -> None:
    lines, line, rule = BREACHES[breach]
    tree.plugin(*lines)
    with pytest.raises(FlatteningRefused) as refusal:
        tree.flatten()
    assert str(refusal.value).startswith(f"shared/plugin.py:{line}: ")
    assert rule in str(refusal.value)


@pytest.mark.parametrize("name", ["utils", "apps", "main", "config", "configparser"])
@pytest.mark.parametrize(
    "form", ["from {} import x", "# comes from {} and others", 'TEXT = "from {}"']
)
def test_the_words_that_open_webui_rewrites_are_refused_even_in_prose(
    tree: Tree, name: str, form: str
) -> None:
    tree.write("shared/plugin.py", f'"""The plugin."""\n\n{form.format(name)}\n')
    with pytest.raises(FlatteningRefused, match=r"shared/plugin.py:3: Open WebUI rewrites"):
        tree.flatten()


def test_a_cycle_is_refused_with_its_way(tree: Tree) -> None:
    tree.write("shared/money.py", '"""Money."""\n\nfrom shared.plugin import TWO\n\nONE = TWO\n')
    with pytest.raises(
        FlatteningRefused, match=r"cycle: shared\.plugin -> shared\.money -> shared\.plugin"
    ):
        tree.flatten()


def test_a_module_without_docstring_is_refused(tree: Tree) -> None:
    tree.write("shared/plugin.py", "TWO = 2\n")
    with pytest.raises(FlatteningRefused, match="begins with a docstring"):
        tree.flatten()


def test_a_refusal_is_printed_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "CHANGELOG.md").write_text("## 1.0.0\n")
    tree = Tree(tmp_path)
    tree.write("pipelines/src/function/filter.py", '"""F."""\n\nclass Pipe: ...\n')
    tree.write("pipelines/src/pipeline/filter.py", '"""P."""\n')
    assert main([], tmp_path) == 1
    refusal = "function/filter.py:3: Open WebUI would take a top-level Pipe"
    assert refusal in capsys.readouterr().err
    assert not (tmp_path / TARGET).exists()
