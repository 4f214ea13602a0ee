"""The schedule: one table of jobs, run by APScheduler until the process is told to stop."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from scheduler.process.sidecar import Sidecar
from shared.errors import UsageError
from shared.settings import Settings

log = logging.getLogger("owui_usage")

# How far back each run looks for changed events, in days.
RECENT_DAYS = 2
CLOSED_DAYS = 45
ALL_DAYS = 3660
_MISFIRE_GRACE_SECONDS = 3600


@dataclass(frozen=True)
class Job:
    """A line of the schedule; `run` may raise UsageError, which is logged, and is run again."""

    name: str
    purpose: str
    run: Callable[[Sidecar], object]
    trigger: Callable[[Settings], BaseTrigger]
    at_start: bool = False


def _daily(settings: Settings) -> BaseTrigger:
    at = settings.usage_daily_at
    return CronTrigger(hour=at.hour, minute=at.minute, timezone=ZoneInfo(settings.usage_timezone))


JOBS = (
    Job(
        "drain",
        "deliver what waits in the spools",
        lambda sidecar: sidecar.drain(),
        lambda settings: IntervalTrigger(seconds=settings.influxdb_flush_interval / 1000),
        at_start=True,
    ),
    Job(
        "refresh",
        "project today and late arrivals",
        lambda sidecar: sidecar.refresh(RECENT_DAYS),
        lambda settings: IntervalTrigger(seconds=settings.usage_refresh_seconds),
        at_start=True,
    ),
    Job(
        "daily",
        "project closed days that changed",
        lambda sidecar: sidecar.refresh(CLOSED_DAYS),
        _daily,
        at_start=True,  # a day missed while the sidecar was off is caught up
    ),
    Job(
        "weekly",
        "compare all days with their events",
        lambda sidecar: sidecar.refresh(ALL_DAYS),
        lambda settings: CronTrigger(
            day_of_week="sun", hour=3, timezone=ZoneInfo(settings.usage_timezone)
        ),
    ),
)


def scheduled(sidecar: Sidecar, jobs: tuple[Job, ...] = JOBS) -> BackgroundScheduler:
    """Return a scheduler with all jobs, not yet started; no job overlaps itself."""
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(max_workers=len(jobs))},
        job_defaults={
            "max_instances": 1,
            "coalesce": True,
            "misfire_grace_time": _MISFIRE_GRACE_SECONDS,
        },
        timezone=UTC,
    )
    for job in jobs:
        first = {"next_run_time": datetime.now(UTC)} if job.at_start else {}
        scheduler.add_job(
            guarded, job.trigger(sidecar.settings), args=(job, sidecar), id=job.name, **first
        )
    return scheduler


def follow_clock(scheduler: BackgroundScheduler) -> None:
    """Bring back the jobs whose next time lies further ahead than it can: the clock was set back.

    APScheduler would stand still until the old time comes again. It is woken too: how long it
    sleeps was computed from a clock that may have been set since.
    """
    now = datetime.now(UTC)
    for job in scheduler.get_jobs():
        if isinstance(job.trigger, IntervalTrigger):
            latest = now + job.trigger.interval
        else:
            latest = job.trigger.get_next_fire_time(None, now)
        if job.next_run_time > latest:
            scheduler.modify_job(job.id, next_run_time=latest)
    scheduler.wakeup()


def guarded(job: Job, sidecar: Sidecar) -> None:
    """Run a job; whatever goes wrong is logged, and other jobs go on."""
    try:
        job.run(sidecar)
    except UsageError as error:
        log.error("job %s: %s", job.name, error)
    except Exception:  # a job that fails is logged and comes again; others go on
        log.exception("job %s failed", job.name)
