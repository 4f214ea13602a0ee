"""The line under an answer with its cost, for users who want to see it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from typing import Any

from shared.capture.openwebui import LEDGER_KEY, json_object
from shared.core.money import format_usd

EventEmitter = Callable[[dict[str, Any]], Awaitable[object]]

_SHOWING: set[asyncio.Future[object]] = set()


def cost_line(amounts: Iterable[tuple[str | None, int]]) -> str:
    """Write the sum of generations: cost in US dollars (None: not known yet), tokens."""
    costs, tokens = zip(*amounts, strict=True)
    known = [Decimal(cost) for cost in costs if cost is not None]
    money = f"{format_usd(sum(known, Decimal(0)))} USD" if known else "cost not known yet"
    if known and len(known) < len(costs):
        money = f"at least {money}"
    return f"{money}, {sum(tokens)} tokens"


def show_cost(metadata: dict[str, Any], user: object, emit: EventEmitter | None) -> None:
    """Show the cost of an answer if the user's own valve asks for it."""
    booked = json_object(metadata.get(LEDGER_KEY)).get("booked")
    wants = getattr(json_object(user).get("valves"), "show_cost", False)
    if emit is not None and booked and wants is True:
        show_status(emit, cost_line(booked.values()))


def show_status(emit: EventEmitter, description: str) -> None:
    """Show a line under the answer without waiting for it."""
    event = {"type": "status", "data": {"description": description, "done": True}}
    showing = asyncio.ensure_future(emit(event))
    # The event loop holds only weak references to tasks.
    _SHOWING.add(showing)
    showing.add_done_callback(_forget_status)


def _forget_status(done: asyncio.Future[object]) -> None:
    _SHOWING.discard(done)
    # An exception that was retrieved is not logged by asyncio: nothing depends on the line.
    _ = done.cancelled() or done.exception()
