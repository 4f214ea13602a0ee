"""Marks in the metadata of a request, so that a second copy of this file books the same rows.

A Pipelines server hands what one plugin returned to the next; Open WebUI never sends metadata on.
"""

import secrets
from datetime import datetime
from typing import Any

from shared.capture.openwebui import openwebui_id
from shared.core.time import from_ms, to_ms

_TASK_KEY = "usage_ledger_task"
_TASK_PREFIX = "task:"
_PART_KEY = "usage_ledger_part"
_PART_MILLISECONDS_MAX = 60_000


def task_id(metadata: dict[str, Any]) -> str:
    """Name a background task, which has no message, by chance."""
    left = openwebui_id(metadata.get(_TASK_KEY))
    if not left.startswith(_TASK_PREFIX):
        left = f"{_TASK_PREFIX}{secrets.token_hex(12)}"
        metadata[_TASK_KEY] = left
    return left


def part_began(metadata: dict[str, Any], now: datetime) -> datetime:
    """Say when a continued part of an answer began: its message is named by more than one."""
    milliseconds = to_ms(now)
    left = metadata.setdefault(_PART_KEY, milliseconds)
    if type(left) is int and abs(left - milliseconds) <= _PART_MILLISECONDS_MAX:
        milliseconds = left
    return from_ms(milliseconds)
