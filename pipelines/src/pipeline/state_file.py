"""The memory of answers in flight, handed to the next plugin: an upload restarts all of them."""

import os
from pathlib import Path

from pydantic import TypeAdapter

from pipelines.src.in_flight import InletMemory, MemorySnapshot

_STATE_MAX_BYTES = 32 * 1024**2


def save_state(memory: InletMemory, path: Path) -> None:
    """Write what a memory knows, for `load_state` of the next one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = TypeAdapter(MemorySnapshot).dump_json(memory.export())
    unfinished = path.with_suffix(".tmp")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    unfinished.replace(path)


def load_state(memory: InletMemory, path: Path) -> None:
    """Read what the last plugin left, once; there is nothing after a crash.

    Raises OSError, or ValueError when the file is damaged.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        text = file.read(_STATE_MAX_BYTES)
    path.unlink()
    memory.restore(TypeAdapter(MemorySnapshot).validate_json(text))
