"""`python -m benchmarks [--only PART ...] [--out FILE]`: run the parts, print their tables."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from benchmarks.days import time_days
from benchmarks.drain import time_drain
from benchmarks.hooks import time_hooks
from benchmarks.host_chunks import time_host_chunks
from benchmarks.layouts import compare_layouts
from benchmarks.pages import time_pages
from benchmarks.report import Table, machine
from benchmarks.sizes import Sizes, chosen_sizes

_INTRODUCTION = """# Benchmarks

Ratios side by side from one run: `make bench` runs it again in minutes, `BENCH_FULL=1 make bench`
at the sizes of the design, `python -m benchmarks --only hooks chunks` some of it (also: layouts,
drain, days, pages). Nothing here is a test, and absolute numbers are those of one machine.
"""


class Parts:
    """The benchmarks of one run by name, in the order in which they are shown."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self.by_name: dict[str, Callable[[], Sequence[Table]]] = {
            "hooks": lambda: [self._hooks[0]],
            "chunks": lambda: [time_host_chunks()],
            "layouts": lambda: compare_layouts(sizes, self._hooks[1]),
            "drain": lambda: [time_drain(sizes)],
            "days": lambda: [time_days(sizes)],
            "pages": lambda: [time_pages(sizes.summary_rows)],
        }

    @cached_property
    def _hooks(self) -> tuple[Table, float]:
        # Also what the original path is held against, whether or not its table is asked for.
        return time_hooks(self._sizes)


def main() -> None:
    """Run benchmarks, print each table as soon as it stands, and write them to a file."""
    parts = Parts(chosen_sizes()).by_name
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
    # Ended from outside, it still ends the servers that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    texts = [_INTRODUCTION, machine()]
    print(texts[1], flush=True)
    for name in parts:
        for table in parts[name]() if name in chosen.only else ():
            texts.append(table.to_markdown())
            print("\n" + texts[-1], flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n\n".join(text.strip() for text in texts) + "\n")


if __name__ == "__main__":
    main()
