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
    """The last run of a job; `error` None means that it succeeded."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    succeeded_at: datetime | None = None
    seconds: float | None = None
    error: str | None = None


class JobLog:
    """The last run of every job; thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._states: dict[str, JobState] = {}

    def begin(self, name: str) -> None:
        with self._lock:
            state = self._states.get(name, JobState())
            self._states[name] = replace(state, started_at=self._clock.now())

    def end(self, name: str, error: str | None = None) -> None:
        """Record the end of a job; `error` None means that it succeeded."""
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
        with self._lock:
            return dict(self._states)


def error_of(outcome: object) -> str | None:
    """Return the first failure that a finished job reports, or None."""
    if isinstance(outcome, RunReport) and outcome.failures:
        first = outcome.failures[0]
        return f"{first.day or 'no day'}: {type(first.error).__name__}: {first.error}"
    return None


def describe_error(error: BaseException) -> str:
    """Return our errors as text; of foreign ones only the class: their text may hold data."""
    return str(error) if isinstance(error, UsageError) else type(error).__name__
