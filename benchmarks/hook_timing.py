"""A process that times the hooks of the generated plugin and prints the results as JSON."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any

from benchmarks.report import percentile
from demo.mock_openrouter.models import openrouter_models
from tests.host.plugin import load_as_function, load_as_pipeline, running

_AT_ONCE = 20
_BURST_EVERY_SECONDS = 0.05
_IDLE_CALLS = 20_000
_RECORD = openrouter_models()[0]
Call = Callable[[], Awaitable[object]]


def main(events: int) -> None:
    found: dict[str, Any] = {"disk": _time_disk(events)}
    with running(load_as_function(), "Filter") as plugin:
        found["chunk_us"] = asyncio.run(_time_idle_chunk(plugin))
        found["stream"] = asyncio.run(
            _time_events(lambda random: _stream_end(plugin, random), events)
        )
    with running(load_as_pipeline(), "Pipeline") as plugin:
        found["outlet"] = asyncio.run(_time_events(partial(_outlet, plugin), events))
    print(json.dumps(found))


def _time_disk(writes: int) -> dict[str, float]:
    """Return the milliseconds that the disk alone takes to make one page durable.

    It is written over, as in the spool's log: in a file that grows it takes the disk longer.
    """
    took = []
    with tempfile.TemporaryFile(dir=os.environ["USAGE_SPOOL_DIR"], buffering=0) as file:
        file.write(bytes(4096 * writes))
        os.fsync(file.fileno())
        file.seek(0)
        for _ in range(writes):
            file.write(os.urandom(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return {"p50_ms": percentile(took, 50), "p99_ms": percentile(took, 99)}


async def _time_idle_chunk(plugin: Any) -> float:
    """Return the microseconds of a chunk without usage, beyond those of an empty hook."""
    metadata = _metadata(Random(1))
    chunk = _chunk(Random(1))
    await plugin.stream(chunk, __metadata__=metadata)

    async def empty(event: dict[str, Any], __metadata__: dict[str, Any]) -> dict[str, Any]:
        return event

    took = []
    for hook in (empty, plugin.stream):
        began = time.perf_counter()
        for _ in range(_IDLE_CALLS):
            await hook(chunk, __metadata__=metadata)
        took.append(time.perf_counter() - began)
    return (took[1] - took[0]) / _IDLE_CALLS * 1e6


async def _time_events(make: Callable[[Random], Awaitable[Call]], events: int) -> dict[str, float]:
    """Time calls one after the other, then twenty answers that end at the same moment."""
    random = Random(2)
    await (await make(random))()
    alone = []
    for _ in range(events):
        alone.append(await _timed(await make(random)))
    stop = asyncio.Event()
    watch = asyncio.create_task(_watch_lag(stop))
    together: list[float] = []
    for _ in range(events // _AT_ONCE):
        calls = [await make(random) for _ in range(_AT_ONCE)]
        await asyncio.sleep(_BURST_EVERY_SECONDS)
        together += await asyncio.gather(*map(_timed, calls))
    stop.set()
    lag = await watch
    return {
        "alone_p50_ms": percentile(alone, 50),
        "alone_p99_ms": percentile(alone, 99),
        "together_p50_ms": percentile(together, 50),
        "together_p99_ms": percentile(together, 99),
        "lag_p99_ms": percentile(lag, 99),
    }


async def _timed(call: Call) -> float:
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1000


async def _watch_lag(stop: asyncio.Event) -> list[float]:
    """Return by how many milliseconds the event loop was late, sampled repeatedly."""
    late = []
    while not stop.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - began) * 1000 - 1)
    return late


async def _stream_end(plugin: Any, random: Random) -> Call:
    """Start a streamed answer and return the call with its last chunk."""
    metadata, first = _metadata(random), _chunk(random)
    await plugin.stream(first, __metadata__=metadata)
    last = {**first, "choices": [], "usage": _usage(random)}
    return partial(plugin.stream, last, __metadata__=metadata)


async def _outlet(plugin: Any, random: Random) -> Call:
    message = str(random.getrandbits(64))
    ended = {"id": message, "role": "assistant", "content": "Yes.", "usage": _usage(random)}
    body = {
        "model": _RECORD["id"],
        "chat_id": str(random.getrandbits(64)),
        "id": message,
        "messages": [ended | {"timestamp": int(time.time())}],
    }
    return partial(plugin.outlet, body, user={"id": "alice-id"})


def _chunk(random: Random) -> dict[str, Any]:
    return {
        "id": f"gen-{int(time.time())}-{random.getrandbits(80):020x}",
        "model": _RECORD["id"],
        "provider": "OpenAI",
        "choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": None}],
    }


def _metadata(random: Random) -> dict[str, Any]:
    return {
        "user_id": "alice-id",
        "chat_id": str(random.getrandbits(64)),
        "message_id": str(random.getrandbits(64)),
        "model_id": _RECORD["id"],
        "model": _RECORD,
    }


def _usage(random: Random) -> dict[str, Any]:
    prompt, completion = random.randint(20, 6000), random.randint(5, 900)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
        "cost": prompt * 2.5e-07 + completion * 2e-06,
        "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": prompt // 2},
        "cost_details": {"upstream_inference_cost": None},
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
