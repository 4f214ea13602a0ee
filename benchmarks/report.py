"""The output of benchmarks: tables of one run, with the machine and versions."""

import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of results; `note` explains it and names the target."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def to_markdown(self) -> str:
        """Return Markdown, with columns aligned for the terminal too."""
        cells = [list(self.columns), *([str(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[place]) for row in cells) for place in range(len(self.columns))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in cells
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths))
        return "\n".join([f"### {self.title}", "", *(f"{line} |" for line in lines), "", self.note])


def machine() -> str:
    """Describe in one paragraph the machine and versions of the run."""
    packages = ("influxdb-client", "pydantic", "httpx", "sqlalchemy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.system()} {platform.release()}, "
        f"{_processor()}, {os.cpu_count()} cores, {_memory_gib()} GiB, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}, "
        f"InfluxDB 2.9.1 on the same machine; load {os.getloadavg()[0]:.1f} when it began."
    )


def print_interim(*cells: object) -> None:
    """Print an interim result of a long part to the standard error."""
    print("...", *cells, file=sys.stderr, flush=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that this percentage does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def ratio(ours: float, other: float) -> str:
    """Format the ratio of two numbers."""
    return f"{ours / other:.2f}" if other else "-"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
