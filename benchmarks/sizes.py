"""How much each benchmark does: minutes by default, the sizes of the design with BENCH_FULL=1."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Counts of events; `stored` are the fill levels at which the original path is timed.

    `held` is how many both layouts hold when their disk and memory are measured.
    """

    hook_events: int
    stored: tuple[int, ...]
    original_calls: int
    held: int
    drained: int
    days: tuple[int, ...]
    summary_rows: int


DEFAULT = Sizes(
    hook_events=600,
    stored=(0, 25_000, 100_000),
    original_calls=150,
    held=100_000,
    drained=100_000,
    days=(10_000, 100_000),
    summary_rows=100_000,
)
FULL = Sizes(
    hook_events=2000,
    stored=(0, 100_000, 400_000),
    original_calls=300,
    held=1_000_000,
    drained=1_000_000,
    days=(10_000, 100_000, 1_000_000),
    summary_rows=1_000_000,
)


def chosen_sizes() -> Sizes:
    """Return the sizes of this run."""
    return FULL if os.environ.get("BENCH_FULL") == "1" else DEFAULT
