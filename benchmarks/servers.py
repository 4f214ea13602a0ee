"""InfluxDB servers of the benchmarks, and what processes use."""

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
    server = start("2.9")
    try:
        yield server
    finally:
        server.stop()


def peak_mb() -> float:
    """Return the peak memory of this process.

    getrusage would return the one of the process that started it, if that was higher.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(process_id: int) -> float:
    # Up to the last parenthesis it is the name; user and system time are in ticks.
    counts = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(counts[11]) + int(counts[12])) / os.sysconf("SC_CLK_TCK")
