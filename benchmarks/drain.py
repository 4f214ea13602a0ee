"""Draining a spool into InfluxDB, compared with a bare loop in the same run."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from subprocess import run
from typing import Any

from benchmarks.draining import WAYS
from benchmarks.events import day_of_events
from benchmarks.report import Table, ratio
from benchmarks.servers import cpu_seconds, influxdb
from benchmarks.sizes import Sizes
from shared.core.event import UsageEvent
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool
from tests.support.services.influx import InfluxServer

_ROOT = Path(__file__).resolve().parents[1]
_PUT_AT_ONCE = 1000


def time_drain(sizes: Sizes) -> Table:
    """Return how fast spooled events reach InfluxDB, in three ways."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-drain-") as folder, influxdb() as server:
        full = Path(folder) / "full.sqlite3"
        _fill(full, day_of_events(sizes.drained))
        for way in WAYS:
            copy = Path(folder) / "copy.sqlite3"
            shutil.copy(full, copy)
            os.sync()  # a disk still writing the copy would be busy for the first way
            found[way] = _drained(way, copy, server)
            for part in Path(folder).glob("copy.sqlite3*"):
                part.unlink()
    ours, bare, _ = found.values()
    return Table(
        title=f"Draining {sizes.drained} spooled events into InfluxDB",
        note=f"Ours is {ratio(bare['seconds'], ours['seconds'])} of the bare loop's rate (target: "
        "0.8 and more), from a durable queue and with every row marked as delivered; its memory "
        "target is 150 MB. The other two have everything in memory before the clock starts. Where "
        "the server keeps both cores busy, whatever we use is taken from it.",
        columns=["way", "events/s", "seconds", "CPU s", "server's CPU s", "peak MB"],
        rows=[_row(way, sizes.drained, took) for way, took in found.items()],
    )


def _row(way: str, events: int, took: dict[str, float]) -> list[str]:
    return [
        way,
        f"{events / took['seconds']:.0f}",
        f"{took['seconds']:.2f}",
        f"{took['cpu_seconds']:.2f}",
        f"{took['server_seconds']:.2f}",
        f"{took['peak_mb']:.0f}",
    ]


def _fill(path: Path, events: Iterator[UsageEvent]) -> None:
    spool = SqliteSpool(path, settings=SpoolSettings(max_bytes=8 * 1024**3, synchronous="NORMAL"))
    while rows := list(islice(events, _PUT_AT_ONCE)):
        spool.put(rows).result(60)
    spool.close()


def _drained(way: str, path: Path, server: InfluxServer) -> dict[str, float]:
    assert server.process is not None
    settings, used = server.bucket(), cpu_seconds(server.process.pid)
    done = run(
        [sys.executable, "-m", "benchmarks.draining", way, path, json.dumps(asdict(settings))],
        cwd=_ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"server_seconds": cpu_seconds(server.process.pid) - used}
