"""Leaving the page of a demo open, so that a person can look around."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from demo.stage import Stage

_WITHOUT_TERMINAL_SECONDS = 300


def leave_open(stage: Stage, console: Console) -> None:
    """Say where to look, and keep everything running until Ctrl-C or the end of a time.

    At a terminal there is no such time; without one it is 300 s, under CI none at all. The
    environment's `DEMO_OPEN_SECONDS` says another.
    """
    here = Path.cwd()
    folder = stage.folder.relative_to(here) if stage.folder.is_relative_to(here) else stage.folder
    console.print(
        f"\nThe page is open at [bold]{stage.page_url}[/] (token {stage.admin_token})\n"
        f"The Pipelines server listens on {stage.pipelines_url} (key {stage.pipelines_key})\n"
        f"USAGE_SPOOL_DIR={folder}/spool .venv/bin/python -m scheduler spool status\n"
        f"{folder}: the spool, the events and the summaries, all of them SQLite files\n"
        f"README.md: install the plugin in your own Open WebUI",
        soft_wrap=True,
    )
    seconds = _open_seconds()
    with suppress(KeyboardInterrupt):
        if seconds is None:
            console.print("Ctrl-C ends everything.")
            signal.pause()
        else:
            console.print(f"Everything ends in {seconds:g} s (DEMO_OPEN_SECONDS), or by Ctrl-C.")
            time.sleep(seconds)


def _open_seconds() -> float | None:
    """Return for how long, None for as long as the person at the terminal wants."""
    given = os.environ.get("DEMO_OPEN_SECONDS")
    if given:
        return float(given)
    if os.environ.get("CI"):
        return 0
    return None if sys.stdin.isatty() else _WITHOUT_TERMINAL_SECONDS
