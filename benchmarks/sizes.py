"""How much each benchmark does: minutes by default, the sizes of the design with BENCH_FULL=1."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Counts of events; `summary_rows` of rows in the database of summaries."""

    hook_events: int
    drained: int
    days: tuple[int, ...]
    summary_rows: int


DEFAULT = Sizes(
    hook_events=600,
    drained=100_000,
    days=(10_000, 100_000),
    summary_rows=100_000,
)
FULL = Sizes(
    hook_events=2000,
    drained=1_000_000,
    days=(10_000, 100_000, 1_000_000),
    summary_rows=1_000_000,
)


def chosen_sizes() -> Sizes:
    return FULL if os.environ.get("BENCH_FULL") == "1" else DEFAULT
