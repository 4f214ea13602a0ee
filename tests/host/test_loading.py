"""The generated file under the rules of both hosts: it loads, and leaves nothing behind."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import needs_host
from tests.host.bodies import ALICE_HERSELF, generation_id, last_chunk, metadata, outlet
from tests.host.plugin import (
    PLUGIN,
    events,
    load_as_function,
    load_as_pipeline,
    rows,
    running,
    session,
)

LOADERS: dict[str, Callable[[], ModuleType]] = {
    "function": load_as_function,
    "pipeline": load_as_pipeline,
}
# What Open WebUI replaces anywhere in the text of a Function.
REWRITTEN = ("from utils", "from apps", "from main", "from config")


@pytest.mark.parametrize("host", LOADERS)
def test_loading_changes_nothing_in_the_process_of_the_host(host: str) -> None:
    load = LOADERS[host]
    load()  # the first time brings the standard library in
    before = (set(sys.modules), list(sys.meta_path), list(sys.path), threading.active_count())
    module = load()
    for kind in ("Filter", "Pipeline"):
        getattr(module, kind)()
    assert (set(sys.modules), sys.meta_path, sys.path, threading.active_count()) == before


@pytest.mark.parametrize("host", LOADERS)
@pytest.mark.parametrize("kind", ["Filter", "Pipeline"])
def test_a_plugin_touches_no_disk_before_its_first_hook(
    host: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PIPELINES_DIR", str(tmp_path))
    getattr(LOADERS[host](), kind)()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", LOADERS)
def test_the_valves_have_titles_descriptions_and_a_schema(host: str) -> None:
    module = LOADERS[host]()
    for valves in (module.FunctionValves, module.PipelineValves):
        for name, field in valves.model_json_schema()["properties"].items():
            assert field["title"], name
            assert field["description"], name


def test_the_text_is_what_both_hosts_expect() -> None:
    text = PLUGIN.read_text(encoding="ascii")
    lines = text.splitlines()
    frontmatter = lines[1 : lines.index('"""', 1)]
    assert lines[0] == '"""'
    assert not [line for line in frontmatter if line.lower().startswith("requirements")]
    assert not [phrase for phrase in REWRITTEN if phrase in text]
    assert {"title", "author", "version", "description"} <= {
        line.split(":")[0] for line in frontmatter
    }


def test_the_version_is_that_of_the_frontmatter() -> None:
    module = load_as_pipeline()
    assert f"version: {module.VERSION}" in (module.__doc__ or "")


def test_it_reads_as_ordinary_python() -> None:
    ruff = Path(sys.executable).with_name("ruff")
    # F402: a name imported for one module may be a loop variable in another.
    rules = ["--select", "F,I,W,UP", "--ignore", "F402", "--isolated", "-q", "--line-length", "100"]
    ran = subprocess.run(
        [ruff, "check", *rules, "-"],
        input=PLUGIN.read_bytes(),
        capture_output=True,
        check=False,
        cwd=PLUGIN.parent,
    )
    assert ran.stdout.decode() == ""


def test_a_filter_that_the_host_forgets_ends_its_threads_and_keeps_its_events(
    tmp_path: Path,
) -> None:
    before = set(threading.enumerate())
    plugin = load_as_function().Filter()
    plugin.valves = plugin.Valves(spool_dir=str(tmp_path))
    asyncio.run(plugin.stream(last_chunk(), __metadata__=metadata()))
    spool_path = plugin.status().spool_path
    ours = [t for t in threading.enumerate() if t not in before]
    assert ours
    del plugin
    gc.collect()
    for thread in ours:
        thread.join(10)
        assert not thread.is_alive()
    with running(load_as_function(), "Filter", spool_dir=str(tmp_path)) as second:
        assert second.status().spool_path == spool_path
        assert [event.request_id for event in events(second)] == [generation_id()]


async def test_a_new_valve_value_counts_from_the_next_hook_on(tmp_path: Path) -> None:
    with running(load_as_function(), "Filter", spool_dir=str(tmp_path), client_org="one") as plugin:
        await plugin.stream(last_chunk(1), __metadata__=metadata())
        before = session(plugin)
        plugin.valves = plugin.Valves(spool_dir=str(tmp_path), client_org="one")
        assert session(plugin) is before
        plugin.valves = plugin.Valves(spool_dir=str(tmp_path), client_org="two")
        await plugin.stream(last_chunk(2), __metadata__=metadata())
        assert before.join(10)
        assert [event.client_org_id for event in events(plugin)] == ["one", "two"]


async def test_a_hook_that_still_runs_when_the_server_reloads_loses_nothing(
    tmp_path: Path,
) -> None:
    plugin = load_as_pipeline().Pipeline()
    plugin.valves = type(plugin.valves)(spool_dir=str(tmp_path))
    await plugin.on_startup()
    await plugin.on_shutdown()
    keeping = [t.name for t in threading.enumerate() if t.name == "owui_usage pipeline"]
    await plugin.outlet(outlet(), ALICE_HERSELF)
    with running(load_as_pipeline(), "Pipeline", spool_dir=str(tmp_path)) as second:
        assert [event.cost_source for event in events(second)] == ["outlet"]
    assert [t.name for t in threading.enumerate() if t.name == "owui_usage pipeline"] == keeping
    del plugin
    gc.collect()


async def test_a_wrong_valve_takes_its_default_and_the_status_says_so(tmp_path: Path) -> None:
    wrong = {"spool_max_mb": "plenty", "quiet_seconds": -1, "influxdb_token": "s3cret", "x": 1}
    with running(load_as_function(), "Filter", spool_dir=str(tmp_path), **wrong) as plugin:
        await plugin.stream(last_chunk(), __metadata__=metadata())
        status, heartbeat = plugin.status(), session(plugin).heartbeat()
        assert plugin.valves.quiet_seconds == 120
    assert status.message.startswith(heartbeat.message)
    assert "spool_max_mb" in status.message
    assert "quiet_seconds" in status.message
    assert status.counters["wrong_setting"] == heartbeat.counters["wrong_setting"] == 2
    assert "s3cret" not in heartbeat.to_json() + repr(status) + repr(plugin.valves)


async def test_the_status_is_in_the_spool_within_a_tick(tmp_path: Path) -> None:
    with running(load_as_pipeline(), "Pipeline", spool_dir=str(tmp_path)) as plugin:
        await plugin.on_startup()
        spool = session(plugin).spool
    kinds = [row.kind for row in rows(plugin)]
    assert kinds == ["host"]
    assert spool.hosts()[0].host_kind == "pipeline"


def test_every_annotation_of_a_hook_can_be_read_by_either_host() -> None:
    for load in LOADERS.values():
        module = load()
        for kind, hooks in {
            "Filter": ("stream", "outlet"),
            "Pipeline": ("inlet", "outlet"),
        }.items():
            for hook in hooks:
                assert typing.get_type_hints(getattr(getattr(module, kind), hook), vars(module))


@pytest.mark.host
@pytest.mark.parametrize("host", ["pipelines-current", "pipelines-pinned", "open-webui"])
def test_it_loads_with_the_packages_of_each_host(host: str, tmp_path: Path) -> None:
    python = needs_host(host) / "bin" / "python"
    script = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('plugin', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "module.Pipeline(), module.Filter()\n"
        "print(module.PipelineValves(pipelines='x', priority='7').priority)\n"
    )
    ran = subprocess.run(
        [python, "-W", "error", "-c", script, str(PLUGIN)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert (ran.stdout, ran.stderr) == ("7\n", "")
