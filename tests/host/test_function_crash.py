"""kill -9 of a process that runs the Function: open generations are booked, booked ones stay."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.host.bodies import generation_id
from tests.host.plugin import ROOT, events, load_as_function, running, session

# Streams one whole generation and the beginning of another, says so and waits to be killed.
HOST = """\
import asyncio, sys, threading

from tests.host.bodies import chunk, last_chunk, metadata
from tests.host.plugin import load_as_function
from tests.host.servers import wait_for

plugin = load_as_function().Filter()
plugin.valves = plugin.Valves(spool_dir=sys.argv[1])


async def stream():
    await plugin.stream(last_chunk(1, 5), __metadata__=metadata())
    await plugin.stream(chunk(2, content="Hel"), __metadata__=metadata())


asyncio.run(stream())
wait_for(lambda: plugin.status().spool.open_generations == 1)
print("under way", flush=True)
threading.Event().wait()
"""


class LaterClock:
    """The clock of ten minutes from now."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=10)


@pytest.fixture
def killed_host(tmp_path: Path) -> Path:
    """Return the spool folder of a host that was killed in mid-answer."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"under way\n"
    finally:
        process.kill()
        process.communicate(timeout=30)
    return tmp_path


def look_after(plugin: Any) -> None:
    """Perform the duty that the thread has four times in a quiet time."""
    session(plugin)._expire()


async def test_what_was_under_way_is_pending_after_the_quiet_time_and_a_minute(
    killed_host: Path,
) -> None:
    with running(load_as_function(), "Filter", spool_dir=str(killed_host)) as plugin:
        look_after(plugin)
        assert [event.request_id for event in events(plugin)] == [generation_id(1)]
    with running(load_as_function(), "Filter", spool_dir=str(killed_host)) as plugin:
        plugin._recorder.clock = LaterClock()
        look_after(plugin)
        booked = {event.request_id: event.is_settled for event in events(plugin)}
    assert booked == {generation_id(1): True, generation_id(2): False}
