"""Handing the memory of answers under way to the plugin that follows: an upload restarts all."""

import os
from pathlib import Path

from pydantic import TypeAdapter

from pipelines.src.in_flight import InletMemory, Legacy

_LEGACY_MAX_BYTES = 32 * 1024**2


def hand_over(memory: InletMemory, path: Path) -> None:
    """Write what a memory knows for `take_over` of the next one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = TypeAdapter(Legacy).dump_json(memory.leave())
    unfinished = path.with_suffix(".tmp")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    unfinished.replace(path)


def take_over(memory: InletMemory, path: Path) -> None:
    """Read what the last plugin left, once; nothing is there after a crash.

    Raises OSError, or ValueError when the file is damaged.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        text = file.read(_LEGACY_MAX_BYTES)
    path.unlink()
    memory.inherit(TypeAdapter(Legacy).validate_json(text))
