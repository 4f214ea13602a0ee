"""`make demo`: a day of traffic through the real Pipelines server, booked, billed and compared."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from rich.console import Console

from demo.installation import ROOT
from demo.plays.traffic import Answer, Charge, a_day
from demo.processes import wait_for
from demo.stage import Stage
from demo.tables import PathLine, compare, print_comparison, print_spend, spend_rows
from shared.core.money import from_pico
from shared.event_store.port import Window
from shared.event_store.sqlite.store import EmbeddedStore
from shared.projection.organization import OrganizationDefaults
from shared.projection.resolution import resolve
from shared.summary_db.database import open_summaries
from shared.summary_db.reports import UsageFilter

FOLDER = ROOT / "var" / "demo"
ANSWERS = 400
SEED = 20261124
_BOOKING_SECONDS = 60
_WIDTH = 140


def main() -> int:
    """Run the demo; return 0 when everything billed is booked, to the last digit."""
    # Amounts are never cut: a narrow terminal wraps lines instead.
    console = Console(highlight=False, width=max(Console().width, _WIDTH))
    stage = Stage(FOLDER)
    with stage.opened(console):
        return _perform(stage, console)


def _perform(stage: Stage, console: Console) -> int:
    console.print("Starting the real Pipelines server and the sidecar, uploading the plugin ...")
    stage.start()
    opening = _yesterday_morning()
    answers = list(a_day(Random(SEED), opening, ANSWERS))
    calls = stage.play(answers)
    console.print(f"Played {ANSWERS} answers of {opening:%A, %d %B} in {calls} hook calls.\n")
    window = Window(opening - timedelta(days=1), datetime.now(UTC) + timedelta(hours=2))
    _wait_until_booked(stage, answers, window)
    days = ("--from", f"{window.start:%Y-%m-%d}", "--to", f"{window.end:%Y-%m-%d}")
    for command in ("project", "verify"):
        code, output = stage.scheduler(command, *days)
        console.print(f"scheduler {command}: {output}")
        if code:
            return 1
    console.print()
    return _conclude(stage, console, answers, window)


def _conclude(stage: Stage, console: Console, answers: Sequence[Answer], window: Window) -> int:
    summaries = open_summaries(stage.database_url, OrganizationDefaults())
    wanted = UsageFilter(start=window.start.date(), end=window.end.date())
    rows = spend_rows(summaries.reports, wanted)
    summaries.close()
    total = from_pico(sum(row.cost_pico_usd for row in rows))
    lines = _compared(stage, _charges(answers), window)
    print_spend(console, rows)
    print_comparison(console, lines, total)
    if total != sum(line.booked for line in lines) or not all(line.agrees for line in lines):
        console.print("[bold red]bill and books differ[/]")
        return 1
    console.print("[bold green]Every dollar that a hook could see is booked, to the last digit.[/]")
    stage.stay_open(console)
    return 0


def _compared(stage: Stage, charges: Sequence[Charge], window: Window) -> list[PathLine]:
    store = EmbeddedStore(stage.store_path)
    try:
        bills = [bill.event for bill in resolve(store.events(window)).bills]
        return compare(charges, bills, store.unmetered(window))
    finally:
        store.close()


def _wait_until_booked(stage: Stage, answers: Sequence[Answer], window: Window) -> None:
    """Wait until the sidecar has delivered a row for each visible charge."""
    charges = _charges(answers)
    tasks = sum(charge.shown == "unmetered" for charge in charges)
    events = sum(charge.shown != "nothing" for charge in charges) - tasks
    store = EmbeddedStore(stage.store_path)
    try:
        wait_for(
            lambda: (
                sum(each.events for each in store.fingerprints(window).values()) >= events
                and len(store.unmetered(window)) >= tasks
            ),
            f"{events} events and {tasks} unmetered rows in {stage.store_path}",
            _BOOKING_SECONDS,
        )
    finally:
        store.close()


def _charges(answers: Sequence[Answer]) -> list[Charge]:
    return [charge for answer in answers for charge in answer.charges]


def _yesterday_morning() -> datetime:
    today = datetime.now(UTC).replace(hour=8, minute=0, second=0, microsecond=0)
    return today - timedelta(days=1)


sys.exit(main())
