"""Waiting for a spool on an event loop, for a while and no longer."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from shared.core.rows import Row
from shared.spool.port import PutOutcome
from shared.spool.sqlite_spool import SqliteSpool


async def put_within(
    spool: SqliteSpool, rows: Sequence[Row], seconds: float = 0.25
) -> list[PutOutcome] | None:
    """Queue rows and wait for the disk, but not longer than this; None when it took longer.

    An overrun is counted and the commit goes on. Raises SpoolError when nothing was queued.
    """
    future = spool.put(rows)
    loop = asyncio.get_running_loop()
    is_over = loop.create_future()
    # asyncio's own wrap_future and wait do the same, and take half as long again as the put.
    future.add_done_callback(partial(_call_loop, loop, is_over))
    timer = loop.call_later(seconds, _wake_hook, is_over)
    try:
        await is_over
    finally:
        timer.cancel()
    if not future.done():
        spool.count("overrun")
        return None
    return future.result()


def _call_loop(
    loop: asyncio.AbstractEventLoop, is_over: asyncio.Future[None], _done: Future[Any]
) -> None:
    # The loop may have been closed meanwhile: nobody waits any more.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_wake_hook, is_over)


def _wake_hook(is_over: asyncio.Future[None]) -> None:
    if not is_over.done():
        is_over.set_result(None)
