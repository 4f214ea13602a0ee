"""`python -m benchmarks [--out FILE]`: run everything and print the tables of this run."""

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.days import time_days
from benchmarks.drain import time_drain
from benchmarks.hooks import time_hooks
from benchmarks.layouts import compare_layouts
from benchmarks.pages import time_pages
from benchmarks.report import Table, machine
from benchmarks.sizes import chosen_sizes

_INTRODUCTION = """# Benchmarks

Ratios side by side from one run: `make bench` runs it again in minutes, `BENCH_FULL=1 make bench`
at the sizes of the design. Nothing here is a test, and absolute numbers are those of one machine.
"""


def main() -> None:
    """Run all benchmarks, print each table as soon as it stands, and write them to a file."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--out", type=Path, help="also write the tables to this file")
    out = arguments.parse_args().out
    # Ended from outside, it still ends the servers that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sizes, parts = chosen_sizes(), [_INTRODUCTION, machine()]
    print(parts[1], flush=True)

    def show(*tables: Table) -> None:
        for table in tables:
            parts.append(table.to_markdown())
            print("\n" + parts[-1], flush=True)

    hooks, ours_p50_ms = time_hooks(sizes)
    show(hooks)
    show(*compare_layouts(sizes, ours_p50_ms))
    show(time_drain(sizes))
    show(time_days(sizes))
    show(time_pages(sizes.summary_rows))
    if out is not None:
        out.write_text("\n\n".join(part.strip() for part in parts) + "\n")


if __name__ == "__main__":
    main()
