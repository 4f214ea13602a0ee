"""Imports point one way: errors, domain, ports, adapters and use cases, entry points."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = ("scheduler", "migration_tools", "pipelines.src", "demo")
ALLOWED: dict[str, tuple[str, ...]] = {
    # The packages of `shared` get their order back when all have been moved.
    "shared": ("shared",),
    **{entry: ("shared", entry) for entry in ENTRY_POINTS},
}


def sources() -> list[Path]:
    folders = ("shared", "scheduler", "migration_tools", "pipelines/src", "demo")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
    return names


def starts(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    layer = max((name for name in ALLOWED if starts(module_name(path), (name,))), key=len)
    ours = {name for name in imports(path) if starts(name, ("shared", *ENTRY_POINTS))}
    assert {name for name in ours if not starts(name, ALLOWED[layer])} == set()
