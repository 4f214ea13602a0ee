"""The running sidecar: schedule, ingest, requested projections, and leader election."""

import logging
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from scheduler.ingest.ingest import Ingest, OwnSpools
from scheduler.monitoring.heartbeat import (
    ProcessIdentity,
    ScheduleLine,
    SpoolState,
    sidecar_heartbeat,
)
from scheduler.process.job_log import JobLog, JobState, describe_error, error_of
from scheduler.process.jobs import Job, follow_clock, ledger_jobs, run_guarded, scheduled
from scheduler.process.recompute_queue import RecomputeQueue
from scheduler.process.sidecar import Sidecar
from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.days import ONE_DAY
from shared.core.rows import HostRow
from shared.core.version import read_version
from shared.errors import ProjectionError
from shared.settings import Settings
from shared.summary_db.leader_lock import leader_lock

log = logging.getLogger("owui_usage")

_HEARTBEAT_SECONDS = 20


class RunningSidecar(Sidecar):
    """A sidecar as a process. Of all sidecars of a database only the elected leader is active.

    The active one projects, delivers and takes usage in. The others wait for its lock; the one that
    gets it catches up at once.
    """

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(settings, clock)
        database_url = settings.usage_database_url.get_secret_value()
        self.clock = clock
        self.version = read_version()
        self.spools = OwnSpools.open(settings, clock)
        self.ingest = Ingest(self.spools, self.summaries, settings.usage_client_org, clock)
        self.recompute_queue = RecomputeQueue(self.summaries.runs, self.project, self.stop)
        self.job_log = JobLog(clock)
        self.started_at = clock.now()
        self._lock = leader_lock(database_url)
        self._is_active = False
        self._identity = ProcessIdentity(
            host_id=f"sidecar-{secrets.token_hex(4)}",
            version=self.version,
            started_at=self.started_at,
        )
        self._jobs = (*ledger_jobs(self), *self._process_jobs())
        self._scheduler: BackgroundScheduler | None = None

    @property
    def is_active(self) -> bool:
        """Whether this sidecar is the elected leader."""
        return self._is_active

    def add_job(self, job: Job) -> None:
        """Add a job to the schedule; only before `start`."""
        self._jobs = (*self._jobs, job)

    def start(self) -> None:
        """Take part in the election, and begin the schedule."""
        self.try_lead()
        self._scheduler = scheduled(tuple(self._logged(job) for job in self._jobs))
        self._scheduler.start()

    def follow_clock(self) -> None:
        """Let the schedule go on when the clock was set back."""
        if self._scheduler is not None:
            follow_clock(self._scheduler)

    def try_lead(self) -> None:
        """Become the leader if there is none; step down when the lock was lost."""
        was_active, self._is_active = self._is_active, self._lock.hold()
        if self._is_active and not was_active:
            log.info("this sidecar is active")
            self._on_elected()
        elif was_active and not self._is_active:
            log.warning("the active role was lost: this sidecar waits for it")

    def run_job(self, name: str) -> None:
        """Run a job now, as the schedule would."""
        run_guarded(self._logged(next(job for job in self._jobs if job.name == name)))

    def send_heartbeat(self) -> None:
        """Put a status row into the own spool, as every host does three times a minute."""
        self.spools.manual.put([self.heartbeat()])

    def heartbeat(self) -> HostRow:
        """Return the status row of this sidecar."""
        return sidecar_heartbeat(
            self._identity,
            self.spools.status(),
            [delivery.status() for _, delivery in self._drain.spools().values()],
            {**self.spools.counters(), **_prefixed("webhook_", self.ingest.refused())},
            is_active=self._is_active,
            now=self.clock.now(),
        )

    def spool_states(self) -> list[SpoolState]:
        """Return the state of every spool that delivery has found. Raises SpoolError."""
        return [
            SpoolState(name, spool.status(), delivery.status())
            for name, (spool, delivery) in self._drain.spools().items()
        ]

    def hosts_here(self) -> list[HostRow]:
        """Return the newest row of every host whose spool is here. Raises SpoolError."""
        return [host for spool, _ in self._drain.spools().values() for host in spool.hosts()]

    def prune(self) -> None:
        """Delete records of runs that are older than USAGE_AUDIT_DAYS."""
        before = self.clock.now() - self.settings.usage_audit_days * ONE_DAY
        self.summaries.runs.prune(before)

    def schedule(self) -> list[ScheduleLine]:
        """Return the jobs with their last and their next run."""
        states = self.job_log.states()
        return [self._line(job, states.get(job.name, JobState())) for job in self._jobs]

    def close(self) -> None:
        """End the schedule and the recompute queue, step down, close everything."""
        self.stop.set()
        if self._scheduler is not None and self._scheduler.running:
            self._scheduler.shutdown(wait=True)
        self.recompute_queue.close()
        self._lock.release()
        self._is_active = False
        super().close()
        self.spools.close()

    def _process_jobs(self) -> tuple[Job, ...]:
        return (
            Job(
                "role",
                "be or become the active sidecar",
                self.try_lead,
                IntervalTrigger(seconds=self.settings.usage_standby_seconds),
                in_standby=True,
            ),
            Job(
                "heartbeat",
                "report how this sidecar does",
                self.send_heartbeat,
                IntervalTrigger(seconds=_HEARTBEAT_SECONDS),
                at_start=True,
                in_standby=True,
            ),
            Job(
                "prune",
                "delete old records of runs",
                self.prune,
                CronTrigger(hour=2, minute=17, timezone=UTC),
            ),
        )

    def _line(self, job: Job, state: JobState) -> ScheduleLine:
        found = self._scheduler.get_job(job.name) if self._scheduler else None
        return ScheduleLine(
            name=job.name,
            purpose=job.purpose,
            started_at=state.started_at,
            succeeded_at=state.succeeded_at,
            seconds=state.seconds,
            error=state.error,
            next_run_at=found.next_run_time.astimezone(UTC) if found else None,
        )

    def _on_elected(self) -> None:
        try:
            self.summaries.runs.interrupt_requests()
        except ProjectionError as error:
            log.error("batches left behind could not be marked: %s", error)
        if self._scheduler is not None:
            now = datetime.now(UTC)
            for number, job in enumerate(job for job in self._jobs if job.at_start):
                self._scheduler.modify_job(job.name, next_run_time=now + timedelta(0, number))

    def _logged(self, job: Job) -> Job:
        """Return the job with its runs in the job log; without `in_standby` only the leader's."""

        def run() -> object:
            if not self._is_active and not job.in_standby:
                return None
            self.job_log.begin(job.name)
            try:
                outcome = job.run()
            except BaseException as error:
                self.job_log.end(job.name, describe_error(error))
                raise
            failure = error_of(outcome)
            self.job_log.end(job.name, failure)
            if job.name == "refresh" and failure is None:
                self._retry_failed("daily")
            return outcome

        return replace(job, run=run)

    def _retry_failed(self, name: str) -> None:
        """Run a job again that failed, now that the stores answer: its next time may be far."""
        state = self.job_log.states().get(name)
        if state is not None and state.error is not None:
            self.run_job(name)


def _prefixed(prefix: str, counts: dict[str, int]) -> dict[str, int]:
    return {prefix + reason: count for reason, count in counts.items()}
