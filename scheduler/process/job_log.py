"""The job log: how every job of the schedule ended last, for health and status."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock

from shared.core.clock import Clock
from shared.errors import UsageError
from shared.projection.run_report import RunReport


@dataclass(frozen=True, kw_only=True)
class JobState:
    """How a job stands; `error` None means that it ended well the last time it ran."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    succeeded_at: datetime | None = None
    seconds: float | None = None
    error: str | None = None


class JobLog:
    """Remembers the last run of every job; any thread may write and read."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._states: dict[str, JobState] = {}

    def begin(self, name: str) -> None:
        """Note that a job has begun."""
        with self._lock:
            state = self._states.get(name, JobState())
            self._states[name] = replace(state, started_at=self._clock.now())

    def end(self, name: str, error: str | None = None) -> None:
        """Note that a job has ended, well or with a sentence that says why not."""
        now = self._clock.now()
        with self._lock:
            state = self._states.get(name, JobState())
            self._states[name] = replace(
                state,
                ended_at=now,
                succeeded_at=state.succeeded_at if error else now,
                seconds=(now - (state.started_at or now)).total_seconds(),
                error=error,
            )

    def states(self) -> Mapping[str, JobState]:
        """Return how every job stands that has run."""
        with self._lock:
            return dict(self._states)


def trouble_of(outcome: object) -> str | None:
    """Say what went wrong in a job that ended by itself, or None."""
    if isinstance(outcome, RunReport) and outcome.failures:
        first = outcome.failures[0]
        return f"{first.day or 'no day'}: {type(first.error).__name__}: {first.error}"
    return None


def sentence_of(error: BaseException) -> str:
    """Say an error for a person; of one that is not ours only its kind, its text may hold data."""
    return str(error) if isinstance(error, UsageError) else type(error).__name__
