"""Playing answers: their hook calls over HTTP, as Open WebUI posts them to a Pipelines server."""

import asyncio
from collections.abc import Sequence

import httpx

from demo.plays.traffic import Answer

_AT_ONCE = 12


def play(answers: Sequence[Answer], pipelines_url: str, plugin_id: str) -> int:
    """Play all answers, some at once, the calls of each in order; return the number of calls."""
    return asyncio.run(_play(answers, f"{pipelines_url}/{plugin_id}/filter"))


async def _play(answers: Sequence[Answer], filter_url: str) -> int:
    seats = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:

        async def one(answer: Answer) -> int:
            async with seats:
                for call in answer.calls:
                    url = f"{filter_url}/{call.hook}"
                    body = {"body": call.body, "user": dict(call.user)}
                    (await client.post(url, json=body)).raise_for_status()
            return len(answer.calls)

        return sum(await asyncio.gather(*map(one, answers)))
