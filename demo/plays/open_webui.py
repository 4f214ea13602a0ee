"""`make demo-openwebui`: the real Open WebUI with the plugin, left running to click through.

Behind it stands the mock OpenRouter; each answer prints what was billed and what is booked.
"""

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from rich.console import Console

from demo.installation import (
    ACTION,
    PASSWORD,
    PIPELINES,
    PLUGIN,
    ROOT,
    Installation,
    missing_hosts,
)
from demo.mock_openrouter.answers import CLOCK_TOOL
from demo.plays.open_webui_admin import Person
from demo.processes import free_port
from demo.sidecar import sidecar_environment, sidecar_server
from shared.core.money import format_usd, parse_usd
from shared.event_store.port import Window
from shared.event_store.sqlite.store import EmbeddedStore
from shared.projection.resolution import resolve, still_unmetered

FOLDER = ROOT / "var" / "demo-openwebui"
# Short, so that a person sees a stopped answer become pending while looking on.
_QUIET_SECONDS, _ANSWER_WAIT_SECONDS = 10, 15
_LOOK_SECONDS = 1.0
_ADMIN_TOKEN, _USER_TOKEN = "admin-token-of-the-demo", "user-token-of-the-demo"
_TOOL = f'''
class Tools:
    def {CLOCK_TOOL}(self) -> str:
        """Tell the time."""
        return "noon"
'''
_WORDS = (
    ("[[hold]]", "an answer that waits: press Stop, it becomes pending"),
    ("[[tools=2]]", "a tool loop of three generations (switch on Mock Tools first)"),
    ("[[null-cost]]", "a cost that OpenRouter does not tell"),
    ("[[byok]]", "a key of your own: OpenRouter bills only its fee"),
    ("[[error-before-usage]]", "an error in mid-answer"),
    ("[[402]]", "no credits left"),
)


def main() -> int:
    """Run until Ctrl-C."""
    console = Console(highlight=False)
    if missing := missing_hosts():
        console.print(f"Not installed: {', '.join(missing)}. Run `make hosts` first.")
        return 1
    stopped = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    installation = Installation(FOLDER, {"USAGE_CLIENT_ORG": "acme"})
    settings = sidecar_environment(FOLDER, USAGE_SPOOL_DIR=str(installation.spool_folder))
    tokens = {"USAGE_ADMIN_TOKEN": _ADMIN_TOKEN, "USAGE_USER_TOKEN": _USER_TOKEN}
    sidecar = sidecar_server(FOLDER, {**settings, **tokens, "USAGE_PORT": str(free_port())})
    try:
        console.print("Starting Open WebUI, Pipelines, the mock OpenRouter and the sidecar ...")
        installation.start()
        sidecar.start()
        _furnish(installation, sidecar.url)
        _welcome(console, installation, sidecar.url, settings)
        _watch(console, installation, Path(settings["USAGE_STORE_PATH"]), stopped)
    finally:
        sidecar.stop()
        installation.stop()
    return 0


def _furnish(installation: Installation, sidecar_url: str) -> None:
    """Install the plugin in both hosts and the button for users, create accounts."""
    admin = installation.admin
    admin.create_function("usage_ledger", PLUGIN, {"quiet_seconds": _QUIET_SECONDS})
    admin.upload_pipeline(PIPELINES, PLUGIN)
    valves = {"answer_wait_seconds": _ANSWER_WAIT_SECONDS}
    admin.set_pipeline_valves(PIPELINES, PLUGIN.stem, valves)
    admin.create_tool("mock_tools", _TOOL)
    admin.create_preset("house-preset", "House preset", "openai/gpt-5-mini")
    valves_of_users = {"sidecar_url": sidecar_url, "user_token": _USER_TOKEN}
    admin.create_function("my_usage", ACTION, valves_of_users)
    admin.share_model("openai/gpt-5-mini", "GPT-5 mini")
    for name in ("Alice", "Bob"):
        admin.add_user(name, f"{name.lower()}@example.org", PASSWORD)


def _welcome(
    console: Console, installation: Installation, sidecar_url: str, settings: Mapping[str, str]
) -> None:
    admin: Person = installation.admin.person
    console.print(f"\n  Open WebUI   [bold]{installation.open_webui.url}[/bold]")
    console.print(f"  sign in as   {admin.email} (admin), alice@example.org, bob@example.org")
    console.print(f"  password     {PASSWORD}")
    console.print(f"  the bill     {installation.openrouter.url}/__ledger")
    console.print(f"  the pages    {sidecar_url} (token {_ADMIN_TOKEN})")
    console.print("  my usage     the button with a chart below an answer of GPT-5 mini")
    variables = " ".join(f"{name}={value}" for name, value in settings.items())
    console.print("  the books    in this folder, with these variables set:", soft_wrap=True)
    console.print(
        f"    {variables} \\\n      .venv/bin/python -m scheduler spool status", soft_wrap=True
    )
    console.print("\n  A word in a prompt makes the mock answer oddly:")
    for word, meaning in _WORDS:
        console.print(f"    {word:<24}{meaning}", markup=False, soft_wrap=True)
    console.print("\n  Ctrl-C ends everything.\n")


def _watch(console: Console, installation: Installation, store_path: Path, stopped: Event) -> None:
    """Print one line whenever the bill or the bookings have changed."""
    store = EmbeddedStore(store_path)
    shown = ""
    with contextlib.closing(store):
        while not stopped.wait(_LOOK_SECONDS):
            line = _state(installation, store)
            if line != shown:
                console.print(f"  {time.strftime('%H:%M:%S')}  {line}", soft_wrap=True)
                shown = line


def _state(installation: Installation, store: EmbeddedStore) -> str:
    rows = [
        row
        for row in installation.ledger()
        if row["connection"] == "openrouter" and row["status"] != "refused"
    ]
    billed = sum((parse_usd(row["cost"]) for row in rows), parse_usd(0))
    now = datetime.now(UTC)
    window = Window(now - timedelta(days=1), now + timedelta(days=1))
    events = list(store.events(window))
    bills = [bill.event for bill in resolve(events).bills]
    booked = sum((event.cost_usd or parse_usd(0) for event in bills), parse_usd(0))
    unknown = sum(not event.is_settled for event in bills)
    unmetered = len(still_unmetered(store.unmetered(window), events))
    return (
        f"billed {len(rows)} generations, ${format_usd(billed)} | booked {len(bills) - unknown}, "
        f"${format_usd(booked)} | pending {unknown} | unmetered {unmetered}"
    )


if __name__ == "__main__":
    sys.exit(main())
