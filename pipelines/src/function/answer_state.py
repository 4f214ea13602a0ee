"""The state of an answer: plain JSON in the one metadata dict that all Function hooks share.

Open WebUI posts this dict to Pipelines with every background task.
"""

from typing import Any

from shared.capture.openwebui import KEY_HASH, LEDGER_IDS_MAX, LEDGER_KEY
from shared.core.event import UsageEvent
from shared.core.money import format_usd

# Keys: the name of the answer that the inlet waits for, and the connection that it goes to.
WAITS_FOR, CONNECTION = "waits_for", "connection"
# id: the generation whose chunks come now; first: its first chunk, until it is booked; total: its
# running total; finish: why it ended; booked: cost and tokens by request_id.
_NEW_STATE: dict[str, Any] = {
    "id": None,
    "first": None,
    "total": None,
    "finish": None,
    "booked": {},
    KEY_HASH: None,
    WAITS_FOR: None,
    CONNECTION: None,
}


def answer_state(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an answer, a new one when there is none or it has another form."""
    state: dict[str, Any] = metadata.get(LEDGER_KEY) or {}
    if not _is_answer_state(state):
        state = metadata[LEDGER_KEY] = dict(_NEW_STATE, booked={})
    return state


def leave_booked(state: dict[str, Any], event: UsageEvent | None) -> None:
    """Leave what the spool took for the other hooks of the answer."""
    if event is None:
        return
    booked = state["booked"]
    cost = None if event.cost_usd is None else format_usd(event.cost_usd)
    booked[event.request_id] = [cost, event.total_tokens]
    while len(booked) > LEDGER_IDS_MAX:
        del booked[next(iter(booked))]


def without_content(chunk: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a chunk that an event needs, without text of the answer."""
    kept = {name: chunk.get(name) for name in ("id", "model", "provider", "service_tier")}
    usage = chunk.get("usage")
    return kept | {"usage": dict(usage)} if isinstance(usage, dict) else kept


def _is_answer_state(state: object) -> bool:
    return (
        isinstance(state, dict)
        and state.keys() >= _NEW_STATE.keys()
        and isinstance(state["booked"], dict)
        and isinstance(state["total"], dict | None)
        and isinstance(state["first"], dict | None)
    )
