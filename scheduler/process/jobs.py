"""The schedule: the sidecar's jobs, run by APScheduler until the process is told to stop."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from scheduler.process.sidecar import Sidecar
from shared.errors import UsageError

log = logging.getLogger("owui_usage")

# How far back each run looks for changed events, in days.
RECENT_DAYS = 2
CLOSED_DAYS = 45
ALL_DAYS = 3660
_MISFIRE_GRACE_SECONDS = 3600


@dataclass(frozen=True)
class Job:
    """A line of the schedule. `run` may raise UsageError: it is logged and the job comes again.

    A passive sidecar runs only the jobs with `in_standby`.
    """

    name: str
    purpose: str
    run: Callable[[], object]
    trigger: BaseTrigger
    at_start: bool = False
    in_standby: bool = False


def ledger_jobs(sidecar: Sidecar) -> tuple[Job, ...]:
    """Return the jobs that deliver and project."""
    settings = sidecar.settings
    zone, at = ZoneInfo(settings.usage_timezone), settings.usage_daily_at
    return (
        Job(
            "drain",
            "deliver what waits in the spools",
            sidecar.drain,
            IntervalTrigger(seconds=settings.influxdb_flush_interval / 1000),
            at_start=True,
            # What was posted to it while it was active is still delivered by a passive sidecar, but
            # not into the embedded store: that file is the active one's.
            in_standby=not sidecar.store.is_embedded_written_to,
        ),
        Job(
            "refresh",
            "project today and late arrivals",
            partial(sidecar.refresh, RECENT_DAYS),
            IntervalTrigger(seconds=settings.usage_refresh_seconds),
            at_start=True,
        ),
        Job(
            "daily",
            "project closed days that changed",
            partial(sidecar.refresh, CLOSED_DAYS),
            CronTrigger(hour=at.hour, minute=at.minute, timezone=zone),
            at_start=True,  # a day missed while the sidecar was off is caught up
        ),
        Job(
            "weekly",
            "compare all days with their events",
            partial(sidecar.refresh, ALL_DAYS),
            CronTrigger(day_of_week="sun", hour=3, timezone=zone),
        ),
    )


def scheduled(jobs: tuple[Job, ...]) -> BackgroundScheduler:
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
        scheduler.add_job(run_guarded, job.trigger, args=(job,), id=job.name, **first)
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


def run_guarded(job: Job) -> None:
    """Run a job; every error is logged, and other jobs go on."""
    try:
        job.run()
    except UsageError as error:
        log.error("job %s: %s", job.name, error)
    except Exception:  # a job that fails is logged and comes again; others go on
        log.exception("job %s failed", job.name)
