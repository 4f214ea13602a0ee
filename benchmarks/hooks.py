"""What the hooks cost a host: a chunk, an event alone and twenty at once, on two disks."""

import json
import os
import sys
import tempfile
from pathlib import Path
from subprocess import run
from typing import Any

from benchmarks.report import Table
from benchmarks.sizes import Sizes

_ROOT = Path(__file__).resolve().parents[1]
_SLOW_FSYNC_MS = "20"


def time_hooks(sizes: Sizes) -> Table:
    with tempfile.TemporaryDirectory(prefix="bench-hooks-") as folder:
        normal = _timed(Path(folder) / "normal", sizes.hook_events, {})
        shim = _slow_disk(Path(folder))
        slow = _timed(Path(folder) / "slow", sizes.hook_events, shim)
    rows = []
    for disk, found in (("normal", normal), (f"{_SLOW_FSYNC_MS} ms per fsync", slow)):
        bare = [f"{value:.2f}" for value in found["disk"].values()]
        rows.append([disk, "one page synced, the floor", *bare, "", "", ""])
        for hook in ("stream", "outlet"):
            rows.append([disk, hook, *(f"{value:.2f}" for value in found[hook].values())])
    chunk = f"A chunk without usage costs {normal['chunk_us']:.1f} us of ours (target: 10)."
    targets = (
        "`stream` is the chunk that ends a streamed answer. No hook can be faster than the floor: "
        "the disk alone, one page written over and synced. Targets on the normal disk: p50 0.3 ms "
        "alone, 1 ms at 20, p99 3 ms; event loop p99 10 ms late at 20 on the slow disk."
    )
    columns = ["disk", "what", "p50 ms", "p99 ms", "20 at once: p50 ms", "p99 ms", "loop late p99"]
    return Table(
        title="Added to an answer by its hook, capture and durable spool",
        note=f"{chunk} {targets}",
        columns=columns,
        rows=rows,
    )


def _timed(spool_dir: Path, events: int, environment: dict[str, str]) -> dict[str, Any]:
    spool_dir.mkdir()
    settings = {"USAGE_SPOOL_DIR": str(spool_dir), **environment}
    done = run(
        [sys.executable, "-m", "benchmarks.hook_timing", str(events)],
        cwd=_ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _slow_disk(folder: Path) -> dict[str, str]:
    shim = folder / "slow_disk.so"
    source = Path(__file__).with_name("slow_disk.c")
    run(["gcc", "-shared", "-fPIC", "-O2", "-o", shim, source], check=True)
    return {"LD_PRELOAD": str(shim), "FSYNC_MS": _SLOW_FSYNC_MS}
