"""The files that an administrator uploads: nothing to spare in them, and nothing to format."""

import ast
import subprocess
from pathlib import Path

import pytest

from tests.conftest import needs_host
from tests.host.plugin import PLUGIN, ROOT

ACTION = ROOT / "pipelines" / "openrouter_usage_action.py"
# As the route /api/v1/utils/code/format of Open WebUI calls it.
FORMAT = """
import sys, black
text = sys.stdin.buffer.read().decode()
sys.stdout.buffer.write(black.format_str(text, mode=black.Mode()).encode())
"""


def _bound_by(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [alias.asname or alias.name.split(".")[0] for alias in names]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [
                node.id
                for target in targets
                for node in ast.walk(target)
                if isinstance(node, ast.Name)
            ]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def test_the_entry_classes_reach_every_definition_and_every_import() -> None:
    used: dict[str, set[str]] = {}
    reached = {"Filter", "Pipeline"}
    for statement in ast.parse(PLUGIN.read_text(encoding="ascii")).body:
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        bound = _bound_by(statement)
        used.update(dict.fromkeys(bound, names))
        if not bound:
            reached |= names
    while more := {name for found in reached for name in used.get(found, ())} - reached:
        reached |= more
    assert set(used) - reached == set()


@pytest.mark.parametrize("path", [PLUGIN, ACTION], ids=lambda path: path.stem)
def test_the_formatter_of_the_editor_leaves_the_file_byte_for_byte(path: Path) -> None:
    python = needs_host("open-webui") / "bin" / "python"
    shipped = path.read_bytes()
    ran = subprocess.run([python, "-c", FORMAT], input=shipped, capture_output=True, check=True)
    assert ran.stdout == shipped
