"""Routes: liveness, readiness, and metrics for Prometheus."""

from datetime import date, datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import BaseModel

from scheduler.api.deps import SidecarDep
from scheduler.monitoring.health import Health, HealthReport, Problem

router = APIRouter(tags=["health"])

_PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Alive(BaseModel):
    """The process answers; whether it works is what /ready says."""

    status: str
    version: str


class Readiness(BaseModel):
    """Whether everything that must work does; if not, why."""

    ready: bool
    at: datetime
    problems: list[Problem]
    warnings: list[Problem]
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


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """All metrics as Prometheus reads them."""
    registry: CollectorRegistry = request.app.state.metrics
    return Response(generate_latest(registry), media_type=_PROMETHEUS_TEXT)


def _readiness(report: HealthReport) -> Readiness:
    drain, refresh = report.jobs.get("drain"), report.jobs.get("refresh")
    return Readiness(
        ready=report.is_ready,
        at=report.at,
        problems=report.problems,
        warnings=report.warnings,
        last_delivery=drain.succeeded_at if drain else None,
        last_projection=refresh.succeeded_at if refresh else None,
        queued=sum(spool.status.queued for spool in report.spools),
        oldest_pending_day=report.oldest_pending_day,
        hosts=len(report.hosts),
    )
