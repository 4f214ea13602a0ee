"""The line under an answer that says what it cost, for users who want to see it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from typing import Any

from shared.domain.money import format_usd

EventEmitter = Callable[[dict[str, Any]], Awaitable[object]]

_EMIT_SECONDS = 0.25


def cost_line(amounts: Iterable[tuple[str | None, int]]) -> str:
    """Add up the cost in US dollars (None: not known yet) and the tokens of generations."""
    costs, tokens = zip(*amounts, strict=True)
    known = [Decimal(cost) for cost in costs if cost is not None]
    money = f"{format_usd(sum(known, Decimal(0)))} USD" if known else "cost not known yet"
    if known and len(known) < len(costs):
        money = f"at least {money}"
    return f"{money}, {sum(tokens)} tokens"


async def show_status(emit: EventEmitter, description: str) -> None:
    """Show a line under the answer; the answer does not wait for it longer than 250 ms."""
    event = {"type": "status", "data": {"description": description, "done": True}}
    showing = asyncio.ensure_future(emit(event))
    showing.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait({showing}, timeout=_EMIT_SECONDS)
