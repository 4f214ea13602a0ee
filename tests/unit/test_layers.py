"""The architecture: packages in one straight stack, each imports only what stands above it here."""

import ast
from pathlib import Path

import pytest

from pipelines.bundler.__main__ import ENTRIES, modules_in_order

ROOT = Path(__file__).resolve().parents[2]
STACK = (
    ("shared.errors",),  # the error tree: the class is the decision
    ("shared.core",),  # events, money, days, ids
    ("shared.settings",),  # the environment as one value
    ("shared.capture", "shared.spool"),  # what hosts say -> events | the durable queue
    ("shared.delivery",),  # from a spool to an event store: batches, retry, breaker
    ("shared.event_store",),  # where events live: InfluxDB, SQLite, both
    ("shared.projection",),  # a day of events -> a day of summaries
    ("shared.summary_db",),  # the database of summaries
    ("pipelines.src", "scheduler", "migration_tools", "demo"),  # entry points
)
# What an admin uploads, and so all that ever runs inside a chat server.
UPLOADED = (
    "shared.errors",
    "shared.core",
    "shared.capture",
    "shared.spool",
    "shared.delivery",
    "shared.event_store.influx.write",
    "shared.event_store.influx.line_protocol",
    "shared.event_store.influx.answers",
    "pipelines.src",
)
# Rules without a disk, a socket, a thread or a clock of their own.
PURE = (
    "shared.capture",
    *(f"shared.core.{name}" for name in ("event", "rows", "money", "ids", "days", "time")),
    *(f"shared.delivery.{name}" for name in ("breaker", "retry", "latency")),
    *(f"shared.projection.{name}" for name in ("resolution", "summary", "audit", "organization")),
)
# Inside the sidecar: pages and commands share the services with the routes, not the routes.
APART = {
    "scheduler.dashboard": ("scheduler.api.routes",),
    "scheduler.cli": ("scheduler.api.routes", "scheduler.dashboard"),
    "scheduler.services": ("scheduler.api", "scheduler.dashboard", "scheduler.cli", "fastapi"),
}
INPUT_AND_OUTPUT = {
    *(
        "asyncio",
        "logging",
        "os",
        "pathlib",
        "socket",
        "sqlite3",
        "subprocess",
        "threading",
        "time",
    ),
    *("httpx", "influxdb_client", "sqlalchemy", "tenacity"),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {
    module_name(path): path
    for folder in ("shared", "pipelines/src", "scheduler", "migration_tools", "demo")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
    return names


def is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "shared"])
def test_a_module_imports_its_own_package_and_those_below(name: str) -> None:
    floor = next(number for number, packages in enumerate(STACK) if is_in(name, packages))
    own = next(package for package in STACK[floor] if is_in(name, (package,)))
    below = (own, *(package for packages in STACK[:floor] for package in packages))
    ours = {module for module in imports(SOURCES[name]) if is_in(module, sum(STACK, ()))}
    assert {module for module in ours if not is_in(module, below)} == set()


@pytest.mark.parametrize("name", [name for name in SOURCES if is_in(name, PURE)])
def test_a_rule_does_no_input_and_no_output(name: str) -> None:
    assert {module.split(".")[0] for module in imports(SOURCES[name])} & INPUT_AND_OUTPUT == set()


@pytest.mark.parametrize("package", APART)
def test_the_sidecar_shares_services_and_not_routes(package: str) -> None:
    found = {
        name: [module for module in imports(path) if is_in(module, APART[package])]
        for name, path in SOURCES.items()
        if is_in(name, (package,))
    }
    assert {name: modules for name, modules in found.items() if modules} == {}


def test_what_is_uploaded_is_what_a_chat_server_needs() -> None:
    bundled = [module.name for module in modules_in_order(ENTRIES, ROOT)]
    assert [name for name in bundled if not is_in(name, UPLOADED)] == []
