"""What each chunk of an answer costs the real Open WebUI: without a filter, with one, with ours."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Table, ratio
from benchmarks.servers import cpu_seconds
from demo.installation import PLUGIN, missing_hosts
from tests.e2e.stage import Stage, open_stage
from tests.e2e.visitor import MODEL, Visitor

_CHUNKS = 1000
_AT_ONCE = 4
_ROUNDS = 5
# It asks the host for what ours asks for, so that the two differ by what they do.
_EMPTY_FILTER = '''"""
title: Empty filter
"""


class Filter:
    async def stream(self, event, __metadata__=None):
        return event
'''
_INSTALLED = ("no filter", "an empty filter", "ours")


@dataclass(frozen=True)
class Cost:
    """The cost of a chunk in microseconds: the server's processor time, and wall time."""

    cpu_us: float
    wall_us: float


def time_host_chunks() -> Table:
    """Return the cost of a chunk for the host, alone and with other answers at once."""
    missing = missing_hosts()
    how = (
        f"Answers of {_CHUNKS} chunks as its page asks for them, the best of {_ROUNDS} rounds. "
        "CPU is all that the server used; an empty filter is the host's own price of any."
    )
    return Table(
        title="What a chunk costs the real Open WebUI",
        note=f"NOT MEASURED: no {', '.join(missing)} here, run `make hosts`." if missing else how,
        columns=["answers", "installed", "CPU us", "x none", "x empty", "wall us", "x none"],
        rows=[] if missing else _timed_rows(),
    )


def _timed_rows() -> list[list[object]]:
    rows: list[list[object]] = []
    with _open_webui() as stage:
        visitor = stage.visitor()
        for answers in (1, _AT_ONCE):
            found: dict[str, list[Cost]] = {name: [] for name in _INSTALLED}
            for _ in range(_ROUNDS):
                for name in _INSTALLED:
                    with _switched_on(stage, name):
                        # The host loads a Function with the first answer after the switch.
                        _stream(stage, visitor, 1, chunks=10)
                        found[name].append(_stream(stage, visitor, answers))
            rows += _rows(answers, found)
        booked = sum(status.queued for status in stage.books.status())
        assert booked >= _ROUNDS * (1 + _AT_ONCE), booked
    return rows


@contextmanager
def _open_webui() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="bench-host-") as name:
        folder = Path(name)
        empty = folder / "empty_filter.py"
        empty.write_text(_EMPTY_FILTER)
        stage = open_stage(folder)
        try:
            for function_id, source in (("empty", empty), ("ours", PLUGIN)):
                stage.admin.create_function(function_id, source)
                stage.admin.toggle_function(function_id)
            yield stage
        finally:
            stage.close()
            stage.installation.stop()


@contextmanager
def _switched_on(stage: Stage, name: str) -> Iterator[None]:
    function_id = {"an empty filter": "empty", "ours": "ours"}.get(name)
    if function_id is None:
        yield
        return
    stage.admin.toggle_function(function_id)
    try:
        yield
    finally:
        stage.admin.toggle_function(function_id)


def _stream(stage: Stage, visitor: Visitor, answers: int, chunks: int = _CHUNKS) -> Cost:
    """Request long answers at once and wait until the host has finished all of them."""
    earlier = len(stage.rows_of(visitor.person.user_id))
    server = stage.installation.open_webui.process_id
    used, began = cpu_seconds(server), time.perf_counter()
    for _ in range(answers):
        visitor.ask(f"[[length={chunks}]] Go on.", MODEL, background_tasks={})
    stage.wait(visitor.person.user_id, earlier + answers)
    seconds, used = time.perf_counter() - began, cpu_seconds(server) - used
    per_chunk = 1e6 / (answers * chunks)
    return Cost(used * per_chunk, seconds * per_chunk)


def _rows(answers: int, found: dict[str, list[Cost]]) -> list[list[object]]:
    cpu = {name: min(cost.cpu_us for cost in costs) for name, costs in found.items()}
    wall = {name: min(cost.wall_us for cost in costs) for name, costs in found.items()}
    none, empty, _ = _INSTALLED
    return [
        [
            answers,
            name,
            f"{cpu[name]:.0f}",
            ratio(cpu[name], cpu[none]),
            ratio(cpu[name], cpu[empty]),
            f"{wall[name]:.0f}",
            ratio(wall[name], wall[none]),
        ]
        for name in _INSTALLED
    ]
