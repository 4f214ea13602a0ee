"""The API: one FastAPI app over a sidecar, behind one authentication."""

from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry

from scheduler.api.auth import USER_PREFIX, ApiTokens, AuthMiddleware, FailedAuthLimiter
from scheduler.api.errors import ErrorBody, install_error_answers
from scheduler.api.path_encoding import EncodedSlashes
from scheduler.api.routes import (
    assignments,
    batch,
    corrections,
    events,
    exchange_rates,
    exports,
    health,
    manual,
    organizations,
    statements,
    status,
    summaries,
    user_months,
    users,
    webhook,
)
from scheduler.dashboard.app import mount_dashboard
from scheduler.monitoring.clock_watch import seconds_since_boot
from scheduler.monitoring.health import Health
from scheduler.monitoring.metrics import LedgerCollector
from scheduler.process.running import RunningSidecar

ADMIN = "/api/v1/admin/usage"
_ADMIN_ROUTES = (
    status,
    manual,
    batch,
    organizations,
    statements,
    assignments,
    exchange_rates,
    summaries,
    events,
    exports,
    corrections,
    users,
)
_ERRORS = {
    401: "the token is missing or wrong",
    403: "the token of this part is not set",
    404: "it is not known",
    409: "it contradicts itself or what is known",
    413: "the body is too large",
    422: "a value cannot be used",
    429: "too many wrong tokens",
    503: "not now: a store, the disk or this sidecar is not ready",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorBody, "description": sentence} for code, sentence in _ERRORS.items()
}
# The middleware checks the token; this only tells readers of the OpenAPI document about it.
_BEARER = Depends(HTTPBearer(auto_error=False, description="USAGE_ADMIN_TOKEN"))
_WEBHOOK_BEARER = Depends(
    HTTPBearer(auto_error=False, scheme_name="webhook", description="USAGE_WEBHOOK_TOKEN")
)
_USER_BEARER = Depends(
    HTTPBearer(auto_error=False, scheme_name="user", description="USAGE_USER_TOKEN")
)


def create_app(
    sidecar: RunningSidecar, steady: Callable[[], float] = seconds_since_boot
) -> FastAPI:
    """Return the app of a sidecar; it starts nothing. `steady` returns monotonic seconds."""
    app = FastAPI(
        title="Usage ledger",
        version=sidecar.version,
        description="Every dollar OpenRouter bills, booked to a person, a model and a task.",
        responses=_RESPONSES,
        redoc_url=None,
    )
    app.state.sidecar = sidecar
    app.state.health = Health(sidecar, steady)
    app.state.metrics = CollectorRegistry()
    app.state.metrics.register(LedgerCollector(sidecar, app.state.health))
    install_error_answers(app)
    settings = sidecar.settings
    tokens = ApiTokens(
        admin=settings.usage_admin_token,
        webhook=settings.usage_webhook_token,
        user=settings.usage_user_token,
    )
    limiter = FailedAuthLimiter(sidecar.clock, settings.usage_failures_per_minute)
    app.add_middleware(
        AuthMiddleware, tokens=tokens, limiter=limiter, is_active=lambda: sidecar.is_active
    )
    app.add_middleware(EncodedSlashes)
    for module in _ADMIN_ROUTES:
        app.include_router(module.router, prefix=ADMIN, dependencies=[_BEARER])
    app.include_router(batch.original_router, dependencies=[_BEARER])
    app.include_router(health.router)
    app.include_router(webhook.router, dependencies=[_WEBHOOK_BEARER])
    app.include_router(
        user_months.router, prefix=USER_PREFIX.rstrip("/"), dependencies=[_USER_BEARER]
    )
    mount_dashboard(app, sidecar, tokens, limiter)
    return app
