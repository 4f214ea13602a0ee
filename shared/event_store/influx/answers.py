"""What an event store's HTTP answer means: every status leads to one decision."""

import re
from json import loads

from shared.errors import (
    BatchRefused,
    DeliveryError,
    Misconfigured,
    StoreFault,
    TooLarge,
    Unavailable,
)

# The store speaks of our lines, not of us: 1.x and 2.x say "unable to parse", Cloud Serverless
# "failed to parse". Only with a 400: 1.8 is also "unable to parse authentication credentials".
_UNREADABLE_LINES = re.compile("(unable|failed) to parse", re.IGNORECASE)
# 2.0 said so with a 500, and with any status some of the lines may be stored.
_PARTIAL_WRITE = re.compile("partial write", re.IGNORECASE)
_COMES_BACK = frozenset({408, 425, 429, 499})
# These two are no passing trouble: the address belongs to something that cannot take our writes.
_NEVER_PASSES = frozenset({501, 505})
_ANSWER_WORDS_MAX = 400


def write_error(
    status: int, body: str, retry_after_seconds: float | None = None
) -> DeliveryError | None:
    """Return the error that an answer to a write stands for, or None when everything was taken."""
    are_unreadable = status == 400 and _UNREADABLE_LINES.search(body)
    if status == 422 or are_unreadable or _PARTIAL_WRITE.search(body):
        return BatchRefused(_answer_words(status, body))
    if 200 <= status <= 299:
        return Misconfigured(_answer_words(status, body)) if body.strip() else None
    return _answer_decision(status, body, retry_after_seconds)


def query_error(
    status: int, body: str, retry_after_seconds: float | None = None
) -> DeliveryError | None:
    """Return the error that the status of an answer to a query stands for, or None for a 200.

    What a 200 says inside its body is for the reader of the body to judge.
    """
    return None if status == 200 else _answer_decision(status, body, retry_after_seconds)


def words_in(body: str) -> str:
    """Return what a body says to a person: a JSON error's message, else the text, shortened."""
    try:
        content = loads(body)
    except ValueError:
        content = None
    if isinstance(content, dict):
        said = [content.get("message") or content.get("error")]
        said += [str(content["data"])] if content.get("data") else []  # version 3 lists the lines
        body = " ".join(part for part in said if isinstance(part, str)) or body
    return " ".join(body.split())[:_ANSWER_WORDS_MAX]


def _answer_decision(status: int, body: str, retry_after_seconds: float | None) -> DeliveryError:
    words = _answer_words(status, body)
    if status == 413:
        return TooLarge(words)
    if status == 500 and retry_after_seconds is None:
        return StoreFault(words)
    if status in _COMES_BACK or (status >= 500 and status not in _NEVER_PASSES):
        return Unavailable(words, retry_after_seconds)
    return Misconfigured(words)


def _answer_words(status: int, body: str) -> str:
    said = words_in(body)
    return f"{status}: {said}" if said else f"{status} without a word"
