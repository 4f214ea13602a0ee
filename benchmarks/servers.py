"""InfluxDB servers of the benchmarks: each in a folder of its own, measured from outside."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.services.influx import InfluxServer, start

_PROGRAM = Path(__file__).resolve().parents[1] / ".cache" / "influx" / "influxd2"


@contextmanager
def influxdb() -> Iterator[InfluxServer]:
    """Run an empty InfluxDB 2.9.1."""
    if not _PROGRAM.exists():
        raise SystemExit("InfluxDB is not here: run `make services`")
    server = start("2.9", _PROGRAM)
    try:
        yield server
    finally:
        server.stop()


def resident_mb(process_id: int) -> float:
    """Return the memory that a process holds now."""
    return _memory_mb(process_id, "VmRSS")


def peak_mb() -> float:
    """Return the most memory that this process held.

    getrusage would tell that of the process which started it, if that was more.
    """
    return _memory_mb(os.getpid(), "VmHWM")


def cpu_seconds(process_id: int) -> float:
    """Return the processor time that a process has used so far."""
    # What stands before the last parenthesis is its name; user and system time are ticks.
    counts = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(counts[11]) + int(counts[12])) / os.sysconf("SC_CLK_TCK")


def disk_mb(server: InfluxServer) -> float:
    """Return what the server's data takes on disk, logs that are not yet compacted included."""
    assert server.home is not None
    used = sum(path.stat().st_blocks for path in (server.home / "engine").rglob("*"))
    return used * 512 / 1024**2


def _memory_mb(process_id: int, name: str) -> float:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0
