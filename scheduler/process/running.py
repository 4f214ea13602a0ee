"""The running sidecar: what the process does beside jobs, and whether it is the active one."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from scheduler.ingest.ingest import Intake
from scheduler.ingest.own_spools import OwnSpools
from scheduler.monitoring.heartbeat import Identity, ScheduleLine, SpoolState, host_statement
from scheduler.process.job_log import JobLog, JobState, sentence_of, trouble_of
from scheduler.process.jobs import JOBS, Job, follow_clock, guarded, scheduled
from scheduler.process.recompute_queue import Batches
from scheduler.process.sidecar import Sidecar
from scheduler.version import read_version
from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.days import ONE_DAY
from shared.core.rows import HostRow
from shared.errors import ProjectionError
from shared.settings import Settings
from shared.summary_db.admin_books import SqlAdminBooks
from shared.summary_db.leader_lock import active_lock

log = logging.getLogger("owui_usage")

_STATEMENT_SECONDS = 20
# What a passive sidecar does too: look whether it is needed, say how it does, show its pages.
_ALWAYS = ("role", "statement", "pages")


class RunningSidecar(Sidecar):
    """A sidecar as a process: schedule, intake, asked-for batches, and its role.

    Only the active one of all sidecars of a database projects, delivers and takes anything in. The
    others wait for its lock; whoever gets it catches up at once.
    """

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(settings, clock)
        database_url = settings.usage_database_url.get_secret_value()
        self.clock = clock
        self.version = read_version()
        self.books = SqlAdminBooks.open(database_url, clock)
        self.spools = OwnSpools.open(settings, clock)
        self.intake = Intake(self.spools, self.books, settings.usage_client_org, clock)
        self.batches = Batches(self.books, self.project, self.stop)
        self.job_log = JobLog(clock)
        self.started_at = clock.now()
        self._lock = active_lock(database_url)
        self._is_active = False
        self._identity = Identity(
            host_id=f"sidecar-{secrets.token_hex(4)}",
            version=self.version,
            started_at=self.started_at,
        )
        self._jobs: tuple[Job, ...] = (*JOBS, *_PROCESS_JOBS)
        self._scheduler: BackgroundScheduler | None = None

    @property
    def is_active(self) -> bool:
        """Whether this is the one sidecar that works."""
        return self._is_active

    def schedule_too(self, job: Job) -> None:
        """Add a job to the schedule; only before it begins."""
        self._jobs = (*self._jobs, job)

    def start(self) -> None:
        """Take the active role if it is free, and begin the schedule."""
        self.keep_role()
        jobs = tuple(replace(job, run=self._logged_run(job)) for job in self._jobs)
        self._scheduler = scheduled(self, jobs)
        self._scheduler.start()

    def follow_clock(self) -> None:
        """Let the schedule go on when the clock was set back."""
        if self._scheduler is not None:
            follow_clock(self._scheduler)

    def keep_role(self) -> None:
        """Take the active role if it is free; give it up when its lock was lost."""
        was_active, self._is_active = self._is_active, self._lock.hold()
        if self._is_active and not was_active:
            log.info("this sidecar is active")
            self._take_over()
        elif was_active and not self._is_active:
            log.warning("the active role was lost: this sidecar waits for it")

    def run_job(self, name: str) -> None:
        """Run a job now, as the schedule would."""
        job = next(job for job in self._jobs if job.name == name)
        guarded(replace(job, run=self._logged_run(job)), self)

    def put_statement(self) -> None:
        """Say how this sidecar does, as every host does three times a minute."""
        self.spools.manual.put_host(self.statement())

    def statement(self) -> HostRow:
        """Return how this sidecar does."""
        return host_statement(
            self._identity,
            self.spools.status(),
            [delivery.status() for _, delivery in self._drain.spools().values()],
            {**self.spools.counters(), **_prefixed("webhook_", self.intake.refused())},
            is_active=self._is_active,
            now=self.clock.now(),
        )

    def spool_states(self) -> list[SpoolState]:
        """Return how every spool stands that delivery has found. Raises SpoolError."""
        return [
            SpoolState(name, spool.status(), delivery.status())
            for name, (spool, delivery) in self._drain.spools().items()
        ]

    def hosts_here(self) -> list[HostRow]:
        """Return the newest row of every host whose spool is here. Raises SpoolError."""
        return [host for spool, _ in self._drain.spools().values() for host in spool.hosts()]

    def prune(self) -> None:
        """Delete records of runs that are older than the settings say."""
        before = self.clock.now() - self.settings.usage_audit_days * ONE_DAY
        self.books.prune_audit(before)

    def schedule(self) -> list[ScheduleLine]:
        """Return the jobs with how they ended last and when they run next."""
        states = self.job_log.states()
        return [self._line(job, states.get(job.name, JobState())) for job in self._jobs]

    def close(self) -> None:
        """End the schedule and asked-for batches, give up the role, close everything."""
        self.stop.set()
        if self._scheduler is not None and self._scheduler.running:
            self._scheduler.shutdown(wait=True)
        self.batches.close()
        self._lock.release()
        self._is_active = False
        super().close()
        self.spools.close()
        self.books.close()

    def _runs_always(self, job: Job) -> bool:
        """Tell what a passive sidecar does too.

        It delivers what was posted to it while it was active; only into the embedded store it must
        not: that file is the active one's.
        """
        delivers = job.name == "drain" and not self.store.is_embedded_written_to
        return job.name in _ALWAYS or delivers

    def _make_up_for(self, name: str) -> None:
        """Run a job again that failed, now that the stores answer: its next time may be far."""
        state = self.job_log.states().get(name)
        if state is not None and state.error is not None:
            self.run_job(name)

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

    def _take_over(self) -> None:
        try:
            self.books.interrupt_batches()
        except ProjectionError as error:
            log.error("batches left behind could not be marked: %s", error)
        if self._scheduler is not None:
            now = datetime.now(UTC)
            for number, job in enumerate(job for job in self._jobs if job.at_start):
                self._scheduler.modify_job(job.name, next_run_time=now + timedelta(0, number))

    def _logged_run(self, job: Job) -> Callable[[Sidecar], object]:
        def run(sidecar: Sidecar) -> object:
            if not self._is_active and not self._runs_always(job):
                return None
            self.job_log.begin(job.name)
            try:
                outcome = job.run(sidecar)
            except BaseException as error:
                self.job_log.end(job.name, sentence_of(error))
                raise
            trouble = trouble_of(outcome)
            self.job_log.end(job.name, trouble)
            if job.name == "refresh" and trouble is None:
                self._make_up_for("daily")
            return outcome

        return run


def _as_running(sidecar: Sidecar) -> RunningSidecar:
    assert isinstance(sidecar, RunningSidecar)
    return sidecar


_PROCESS_JOBS = (
    Job(
        "role",
        "be or become the active sidecar",
        lambda sidecar: _as_running(sidecar).keep_role(),
        lambda settings: IntervalTrigger(seconds=settings.usage_standby_seconds),
    ),
    Job(
        "statement",
        "say how this sidecar does",
        lambda sidecar: _as_running(sidecar).put_statement(),
        lambda _: IntervalTrigger(seconds=_STATEMENT_SECONDS),
        at_start=True,
    ),
    Job(
        "prune",
        "delete old records of runs",
        lambda sidecar: _as_running(sidecar).prune(),
        lambda _: CronTrigger(hour=2, minute=17, timezone=UTC),
    ),
)


def _prefixed(prefix: str, counts: dict[str, int]) -> dict[str, int]:
    return {prefix + reason: count for reason, count in counts.items()}
