"""Open WebUI's own loader of Functions, in its own environment: the plugin loads and books."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import needs_host
from tests.host.plugin import PLUGIN
from tests.support.builders import ALICE, generation_id

pytestmark = pytest.mark.host

# Runs inside Open WebUI's environment: its loader, its signature inspection, its valves.
SCRIPT = """\
import asyncio, inspect, json, sys, threading

from open_webui.utils.filter import get_filter_params, run_filter_handler
from open_webui.utils.plugin import load_function_module_by_id

text, generation_id, user = open(sys.argv[1]).read(), sys.argv[2], sys.argv[3]


async def call(plugin, hook, body, extra):
    handler = getattr(plugin, hook)
    params = get_filter_params(inspect.signature(handler), "usage", hook, body, extra)
    return sorted(params), await run_filter_handler(handler, params)


async def main():
    plugin, kind, frontmatter, module = await load_function_module_by_id("usage", text)
    plugin.valves = plugin.Valves(**{"quiet_seconds": "soon", "client_org": "acme"})
    extra = {
        "__metadata__": {"user_id": user, "chat_id": "chat-1", "message_id": "message-1"},
        "__user__": {"id": user},
        "__model__": {},
    }
    chunk = {"id": generation_id, "model": "openai/gpt-5-mini", "provider": "OpenAI"}
    content = {**chunk, "choices": [{"delta": {"content": "Hello"}}]}
    usage = {**chunk, "choices": [], "usage": {"total_tokens": 18, "cost": 2.025e-05}}
    asked, _ = await call(plugin, "stream", content, extra)
    _, last = await call(plugin, "stream", usage, extra)
    spool = plugin._recorder.session_for(plugin.valves).spool
    rows = [json.loads(row.json) for row in spool.take(100) if row.kind == "usage"]
    stopped = plugin._recorder.stop()
    print(json.dumps({
        "kind": kind,
        "frontmatter": frontmatter,
        "asked": asked,
        "left": last["usage"]["usage_ledger"],
        "rows": rows,
        "path": str(spool.path),
        "quiet": plugin.valves.quiet_seconds,
        "ended": stopped.join(10),
        "schema": len(plugin.Valves.schema()["properties"]),
    }))


asyncio.run(main())
"""


def test_the_real_loader_takes_it_and_a_streamed_generation_is_booked(tmp_path: Path) -> None:
    python = needs_host("open-webui") / "bin" / "python"
    known_id = generation_id(seconds=1_795_000_000)
    ran = subprocess.run(
        [python, "-c", SCRIPT, str(PLUGIN), known_id, ALICE],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "DATA_DIR": str(tmp_path),
            "OFFLINE_MODE": "true",
            "ENABLE_DB_MIGRATIONS": "false",
            "WEBUI_SECRET_KEY": "secret-of-the-tests",
        },
    )
    assert ran.returncode == 0, ran.stderr
    printed = json.loads(ran.stdout.splitlines()[-1])
    assert printed["kind"] == "filter"
    assert printed["frontmatter"]["title"] == "OpenRouter usage ledger"
    assert "requirements" not in printed["frontmatter"]
    assert printed["asked"] == ["__metadata__", "event"]
    assert printed["left"] == [known_id]
    assert printed["path"] == str(tmp_path / "usage" / "function.sqlite3")
    assert printed["quiet"] == 120
    assert printed["ended"]
    (row,) = printed["rows"]
    assert (row["cost_usd"], row["client_org_id"]) == ("0.00002025", "acme")
    assert row["external_user"] == ALICE
