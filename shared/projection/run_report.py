"""How a run of the projection ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.core.days import ZoneDay
from shared.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DayOutcome:
    """How the projection of one day ended; `error` None means that the day was replaced.

    `day` is None when the run failed before any day was known.
    """

    day: ZoneDay | None
    events_read: int = 0
    rows_written: int = 0
    corrections: int = 0
    was_resolved: bool = False
    error: UsageError | None = None


@dataclass(frozen=True)
class RunReport:
    """How a run ended, day by day."""

    outcomes: Sequence[DayOutcome] = ()

    @property
    def failures(self) -> list[DayOutcome]:
        """The days that kept their old summaries, each with its error."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    @property
    def rows_written(self) -> int:
        """How many summary rows were written; 0 when nothing had changed."""
        return sum(outcome.rows_written for outcome in self.outcomes)

    @property
    def corrections(self) -> int:
        """How many changes of final rows were recorded."""
        return sum(outcome.corrections for outcome in self.outcomes)
