"""`python -m benchmarks [--only PART ...] [--out FILE]`: run the parts, print their tables."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.days import time_days
from benchmarks.drain import time_drain
from benchmarks.hooks import time_hooks
from benchmarks.host_chunks import time_host_chunks
from benchmarks.pages import time_pages
from benchmarks.report import Table, machine
from benchmarks.sizes import Sizes, chosen_sizes

_INTRODUCTION = """# Benchmarks

Ratios side by side from one run: `make bench` runs it again in minutes, `BENCH_FULL=1 make bench`
at the sizes of the design, `python -m benchmarks --only hooks chunks` some of it (also: drain,
days, pages). Nothing here is a test, and absolute numbers are those of one machine.
"""


def benchmarks_by_name(sizes: Sizes) -> dict[str, Callable[[], Table]]:
    """Return the benchmarks of one run in the order in which they are shown."""
    return {
        "hooks": lambda: time_hooks(sizes),
        "chunks": time_host_chunks,
        "drain": lambda: time_drain(sizes),
        "days": lambda: time_days(sizes),
        "pages": lambda: time_pages(sizes.summary_rows),
    }


def main() -> None:
    """Run benchmarks, print each table as soon as it is complete, and write them to a file."""
    parts = benchmarks_by_name(chosen_sizes())
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--out", type=Path, help="also write the tables to this file")
    arguments.add_argument(
        "--only",
        nargs="+",
        choices=parts,
        default=list(parts),
        metavar="PART",
        help=", ".join(parts),
    )
    chosen = arguments.parse_args()
    # Terminated from outside, it still stops the servers that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    texts = [_INTRODUCTION, machine()]
    print(texts[1], flush=True)
    for name in parts:
        if name in chosen.only:
            texts.append(parts[name]().to_markdown())
            print("\n" + texts[-1], flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n\n".join(text.strip() for text in texts) + "\n")


if __name__ == "__main__":
    main()
