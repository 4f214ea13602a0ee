"""Answers that begin and are never shown: each becomes an unmetered row."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pipelines.src.in_flight import InletMemory
from pipelines.src.settings import PluginSettings
from shared.capture.inlet import Inlet, unmetered_row
from shared.core.rows import Row


def unmetered_rows(
    inlets: Iterable[Inlet], settings: PluginSettings, request_id: str | None = None
) -> list[Row]:
    """Return the rows of answers or of a task, those of foreign models left out."""
    return [
        unmetered_row(inlet, settings.client_org_id, request_id)
        for inlet in inlets
        if inlet.billing != "foreign"
    ]


def silent_rows(memory: InletMemory, settings: PluginSettings, now: datetime) -> list[Row]:
    """Return the rows of the answers that nobody waits for any longer."""
    wait = timedelta(seconds=settings.answer_wait_seconds)
    return unmetered_rows(memory.give_up(now, wait), settings)
