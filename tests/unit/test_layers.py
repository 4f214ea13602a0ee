"""Imports point one way: errors, domain, ports, adapters and use cases, entry points."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = ("scheduler", "migration_tools", "pipelines.src", "demo")
PORTS = ("shared.ports",)
ALLOWED: dict[str, tuple[str, ...]] = {
    "shared.errors": (),
    "shared.domain": ("shared.errors", "shared.domain"),
    "shared.ports": ("shared.errors", "shared.domain", "shared.ports"),
    "shared.adapters": (
        "shared.errors",
        "shared.domain",
        "shared.ports",
        "shared.ports_summary",
        "shared.ports_admin",
        "shared.adapters",
    ),
    "shared.ports_admin": ("shared.errors", "shared.domain", "shared.ports"),
    "shared.ports_summary": ("shared.errors", "shared.domain", "shared.ports"),
    "shared": (
        "shared.errors",
        "shared.domain",
        "shared.ports",
        "shared.ports_summary",
        "shared.day_books",
        "shared.day_reader",
        "shared.observation",
        "shared.projection",
        "shared.delivery",
        "shared.delivery_state",
        "shared.sending",
        "shared.batches",
    ),
    # What the entry points share: settings made into stores.
    "shared.event_stores": ("shared",),
    **{entry: ("shared", entry) for entry in ENTRY_POINTS},
}
DOMAIN_MAY_NOT = {"sqlite3", "httpx", "sqlalchemy", "influxdb_client", "os", "pathlib", "socket",
                  "threading", "time", "asyncio", "logging", "subprocess", "tenacity"}  # fmt: skip


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


@pytest.mark.parametrize("path", sorted((ROOT / "shared/domain").rglob("*.py")), ids=module_name)
def test_the_domain_does_no_input_and_no_output(path: Path) -> None:
    assert {name.split(".")[0] for name in imports(path)} & DOMAIN_MAY_NOT == set()
