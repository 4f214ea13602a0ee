"""Dedup keys in the metadata of a request: a second copy of this file books the same rows.

A Pipelines server hands what one plugin returned to the next; Open WebUI never sends metadata on.
"""

import secrets
from datetime import datetime
from typing import Any

from shared.capture.openwebui import openwebui_id
from shared.core.time import from_ms, to_ms

_TASK_KEY = "usage_ledger_task"
_TASK_PREFIX = "task:"
_CONTINUATION_KEY = "usage_ledger_part"
_CONTINUATION_MILLISECONDS_MAX = 60_000


def task_id(metadata: dict[str, Any]) -> str:
    """Give a background task, which has no message, a random id."""
    left = openwebui_id(metadata.get(_TASK_KEY))
    if not left.startswith(_TASK_PREFIX):
        left = f"{_TASK_PREFIX}{secrets.token_hex(12)}"
        metadata[_TASK_KEY] = left
    return left


def continuation_began(metadata: dict[str, Any], now: datetime) -> datetime:
    """Return when a continuation began, to the millisecond: all copies of this file take one."""
    milliseconds = to_ms(now)
    left = metadata.setdefault(_CONTINUATION_KEY, milliseconds)
    if type(left) is int and abs(left - milliseconds) <= _CONTINUATION_MILLISECONDS_MAX:
        milliseconds = left
    return from_ms(milliseconds)
