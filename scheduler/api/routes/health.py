"""Routes: whether the process lives, and whether everything that must work does."""

from datetime import date, datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.monitoring.health import Health, HealthReport, Problem

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers; whether it works is what /ready says."""

    status: str
    version: str


class ProblemBody(BaseModel):
    """What is wrong and what to do; `name` is stable."""

    name: str
    sentence: str


class Readiness(BaseModel):
    """Whether everything that must work does; if not, why."""

    ready: bool
    at: datetime
    problems: list[ProblemBody]
    warnings: list[ProblemBody]
    last_delivery: datetime | None
    last_projection: datetime | None
    queued: int
    oldest_pending_day: date | None
    hosts: int


@router.get("/health")
def health(sidecar: SidecarDep) -> Alive:
    """Whether the process lives."""
    return Alive(status="alive", version=sidecar.version)


@router.get(
    "/ready", responses={503: {"model": Readiness, "description": "not ready: the causes by name"}}
)
def ready(request: Request, response: Response) -> Readiness:
    """Whether everything that must work does; 503 with the causes by name if not."""
    looked_at: Health = request.app.state.health
    report = looked_at.report()
    response.status_code = 200 if report.is_ready else 503
    return _readiness(report)


def _readiness(report: HealthReport) -> Readiness:
    drain, refresh = report.jobs.get("drain"), report.jobs.get("refresh")
    return Readiness(
        ready=report.is_ready,
        at=report.at,
        problems=_bodies(report.problems),
        warnings=_bodies(report.warnings),
        last_delivery=drain.succeeded_at if drain else None,
        last_projection=refresh.succeeded_at if refresh else None,
        queued=sum(spool.status.queued for spool in report.spools),
        oldest_pending_day=report.oldest_pending_day,
        hosts=len(report.hosts),
    )


def _bodies(problems: list[Problem]) -> list[ProblemBody]:
    return [ProblemBody(**vars(problem)) for problem in problems]
