"""What may become of a generation that was billed, and the rules that say what must."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Fate(StrEnum):
    """What the books show of one generation, from the best to the worst."""

    BOOKED = "booked to the last digit"
    PENDING = "pending: known, its cost is not"
    ESTIMATED = "estimated from tokens and prices"
    UNMETERED = "unmetered: seen to begin, its cost is in no hook"
    HIDDEN = "no hook sees it"
    MISSTATED = "the host's own record is wrong"
    NOTHING = "nothing was billed through OpenRouter"


_ORDER = list(Fate)
_NO_COST = {"null-cost", "no-cost", "nan-cost"}
# What a chat generation is called by Open WebUI's task header; every other name is a task.
_CHAT = ""
# Open WebUI asks for it past all filters.
_LEGACY_SELECTION = "function_calling"


def expected_fate(host: str, row: Mapping[str, Any]) -> Fate:
    """Say what must become of a ledger row where only `host` has the plugin."""
    if row["connection"] != "openrouter":
        return Fate.NOTHING
    return _by_function(row) if host == "function" else _by_pipelines(row)


def better(one: Fate, other: Fate) -> Fate:
    """Return the fate that shows more."""
    return min(one, other, key=_ORDER.index)


def is_chat(row: Mapping[str, Any]) -> bool:
    """Tell whether a ledger row is an answer, not one of Open WebUI's own tasks."""
    return bool(row["sent_by"].get("task", "") == _CHAT)


def _by_function(row: Mapping[str, Any]) -> Fate:
    if not is_chat(row):
        return Fate.HIDDEN
    # No word and no outlet: all that is seen is that it was asked for.
    is_wordless = row["status"] == "cancelled" and "first" in row["words"]
    if row["status"] == "refused" or is_wordless or not (row["stream"] or _shows_usage(row)):
        return Fate.UNMETERED
    if row["status"] == "cancelled" or not _shows_cost(row):
        return Fate.PENDING
    return Fate.BOOKED


def _by_pipelines(row: Mapping[str, Any]) -> Fate:
    if not is_chat(row):
        is_hidden = row["sent_by"]["task"] == _LEGACY_SELECTION
        return Fate.HIDDEN if is_hidden else Fate.UNMETERED
    if row["status"] in ("cancelled", "refused"):
        # No outlet: the inlet is all there is, and only a chat and a message make it one. What was
        # refused looks the same from there as what was stopped.
        return Fate.UNMETERED if row["sent_by"].get("message") else Fate.HIDDEN
    if not _shows_usage(row):
        return Fate.UNMETERED
    return Fate.BOOKED if _shows_cost(row) else Fate.PENDING


def _shows_usage(row: Mapping[str, Any]) -> bool:
    is_broken = {"error-first", "error-before-usage"} & set(row["words"])
    return row["words"].get("usage") != "never" and not is_broken


def _shows_cost(row: Mapping[str, Any]) -> bool:
    is_later_step = "later" in row["words"] and not row["is_later_step"]
    is_unknown = (
        bool({"null-cost", "no-cost", "nan-cost"} & set(row["words"])) and not is_later_step
    )
    return _shows_usage(row) and not is_unknown
