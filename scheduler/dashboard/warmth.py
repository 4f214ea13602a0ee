"""Warmth: what a first visit would wait for is found before, by a job of the schedule."""

from apscheduler.triggers.interval import IntervalTrigger
from jinja2 import Environment

from scheduler.dashboard.filters import today_of
from scheduler.dashboard.report_cache import Figures
from scheduler.process.jobs import Job
from scheduler.process.running import RunningSidecar


def warming_job(sidecar: RunningSidecar, figures: Figures, templates: Environment) -> Job:
    """Return the job that keeps figures known and templates compiled."""

    def warm() -> None:
        for name in templates.list_templates():
            templates.get_template(name)
        figures.learn(today_of(sidecar))

    return Job(
        "pages",
        "add up what pages ask for most",
        warm,
        IntervalTrigger(seconds=sidecar.settings.usage_refresh_seconds),
        at_start=True,
        in_standby=True,
    )
