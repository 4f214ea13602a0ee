"""The generated plugin, loaded in this process by the rules of each host, and what it booked."""

import __future__

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from shared.core.event import UsageEvent
from shared.core.rows import Row, UnmeteredRow, row_from_json
from shared.spool.sqlite_spool import SqliteSpool

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "pipelines" / "openrouter_usage_filter.py"
FUNCTION_MODULE = "function_openrouter_usage_0123456789abcdef"


def load_as_function(text: str | None = None) -> ModuleType:
    """Run the text as Open WebUI does: registered meanwhile, every annotation a string."""
    module = ModuleType(FUNCTION_MODULE)
    sys.modules[FUNCTION_MODULE] = module
    source = PLUGIN.read_text(encoding="ascii") if text is None else text
    inherited = __future__.annotations.compiler_flag
    try:
        exec(compile(source, "<string>", "exec", inherited, dont_inherit=True), module.__dict__)  # noqa: S102 the host's way
    finally:
        del sys.modules[FUNCTION_MODULE]
    return module


def load_as_pipeline(path: Path = PLUGIN) -> ModuleType:
    """Run the file as the Pipelines server does: never registered, annotations as written."""
    spec = importlib.util.spec_from_file_location("openrouter_usage_filter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def running(module: ModuleType, kind: str, **valves: Any) -> Iterator[Any]:
    """Build the plugin of a kind (`Filter`, `Pipeline`) and end its threads afterwards."""
    plugin = getattr(module, kind)()
    plugin.valves = type(plugin.valves)(**valves)
    try:
        yield plugin
    finally:
        stopped = plugin._recorder.stop()
        assert stopped is None or stopped.join(10)


def session(plugin: Any) -> Any:
    """Return the spool session of the plugin's next hook."""
    return plugin._recorder.session_for(plugin.valves)


def expire(plugin: Any) -> None:
    """Let the quiet time of every open generation pass."""
    used = session(plugin)
    used._refresh()
    used.spool.expire_open(datetime.now(UTC) + timedelta(hours=1), 120)


def overdue(plugin: Any, **later: float) -> list[UnmeteredRow]:
    """Return the rows that will be due later, of which each is returned once."""
    used = session(plugin)
    return list(used._overdue(used.settings, datetime.now(UTC) + timedelta(**later)))


def put_overdue(plugin: Any, **later: float) -> None:
    """Let the wait for every answer pass."""
    session(plugin).spool.put(overdue(plugin, **later)).result(30)


def rows(plugin: Any) -> list[Row]:
    """Return every row in the spool of a plugin, read by the library and not by the plugin."""
    used = session(plugin)
    # On a busy machine a hook may have returned before its commit: this one comes after it.
    used.spool.put([]).result(30)
    spool = SqliteSpool(used.spool.path)
    try:
        return [row_from_json(row.kind, row.json) for row in spool.take(100_000)]
    finally:
        spool.close()


def events(plugin: Any) -> list[UsageEvent]:
    """Return the usage events in the spool of a plugin."""
    return [row for row in rows(plugin) if isinstance(row, UsageEvent)]


def unmetered(plugin: Any) -> list[UnmeteredRow]:
    """Return the unmetered rows in the spool of a plugin."""
    return [row for row in rows(plugin) if isinstance(row, UnmeteredRow)]
