"""The pages: an app inside the sidecar's, with sessions, strict headers and errors as HTML."""

import logging
import secrets
from typing import Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.api.auth import ApiTokens, FailedAuthLimiter
from scheduler.api.errors import refusal_status
from scheduler.dashboard.pages import STATIC, page_templates, render
from scheduler.dashboard.report_cache import ReportCache, cache_warmer
from scheduler.dashboard.sessions import (
    SessionCookie,
    Sessions,
    SignInNeeded,
    active_only,
    check_form,
    signed_in,
)
from scheduler.dashboard.views import (
    assignments,
    events,
    exchange_rates,
    hosts,
    organizations,
    overview,
    runs,
    sign_in,
    statements,
    usage,
)
from scheduler.monitoring.health import Health
from scheduler.process.running import RunningSidecar
from scheduler.services.errors import Refused
from shared.errors import ConfigError, InvalidEvent, UsageError

log = logging.getLogger("owui_usage")

_PAGES: tuple[Any, ...] = (
    overview,
    usage,
    events,
    statements,
    organizations,
    assignments,
    exchange_rates,
    hosts,
    runs,
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_STATIC_PREFIX = "/ui/static/"


def mount_dashboard(
    app: FastAPI, sidecar: RunningSidecar, tokens: ApiTokens, limiter: FailedAuthLimiter
) -> None:
    """Serve the pages at `/` and below `/ui/`, and add the job that warms their cache."""
    dashboard = create_dashboard(sidecar, app.state.health, tokens, limiter)
    app.router.routes.append(Route("/", endpoint=dashboard, include_in_schema=False))
    app.mount("/ui", dashboard)


def create_dashboard(
    sidecar: RunningSidecar, health: Health, tokens: ApiTokens, limiter: FailedAuthLimiter
) -> FastAPI:
    dashboard = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    state = dashboard.state
    state.sidecar, state.health = sidecar, health
    state.tokens, state.limiter = tokens, limiter
    state.report_cache = ReportCache(sidecar.summaries, sidecar.clock)
    state.sessions = Sessions(sidecar.clock)
    state.templates = page_templates(sidecar.settings.usage_timezone, sidecar.version)
    sidecar.add_job(cache_warmer(sidecar, state.report_cache, state.templates.env))
    dashboard.add_middleware(SessionCookie)
    dashboard.add_middleware(GZipMiddleware, minimum_size=1024)
    dashboard.add_middleware(StrictHeaders)
    _install_error_pages(dashboard)
    dashboard.mount("/static", StaticFiles(directory=STATIC))
    dashboard.include_router(sign_in.router)
    guards = [
        Depends(signed_in),
        Depends(check_form),
        Depends(active_only(lambda: sidecar.is_active)),
    ]
    for module in _PAGES:
        dashboard.include_router(module.router, dependencies=guards)
    return dashboard


class StrictHeaders:
    """Adds to every response a policy that lets a page run and show only its own files."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_static = scope["path"].startswith(_STATIC_PREFIX)
        cache = "public, max-age=31536000, immutable" if is_static else "no-store"

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, "Cache-Control": cache}.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, strict)


def _install_error_pages(dashboard: FastAPI) -> None:
    dashboard.add_exception_handler(SignInNeeded, _redirect_to_sign_in)
    dashboard.add_exception_handler(UsageError, _usage_error)
    dashboard.add_exception_handler(RequestValidationError, _invalid_request)
    dashboard.add_exception_handler(HTTPException, _http_error)
    dashboard.add_exception_handler(Exception, _unexpected_error)


def _redirect_to_sign_in(request: Request, _error: Exception) -> Response:
    wanted = request.url.path if request.method == "GET" else "/"
    query = f"?{request.url.query}" if request.method == "GET" and request.url.query else ""
    address = f"/ui/sign-in?next={quote(wanted + query)}"
    if request.headers.get("HX-Request"):
        # A part of a page must not become the sign-in page: htmx goes there as a whole.
        return Response(status_code=401, headers={"HX-Redirect": "/ui/sign-in"})
    return RedirectResponse(address, 303)


def _usage_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return error_page(request, refusal_status(error), str(error))
    is_input = isinstance(error, ConfigError | InvalidEvent)
    return error_page(request, 422 if is_input else 503, str(error))


def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return error_page(request, 422, f"{first['loc'][-1]}: {first['msg']}")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = "There is no such page." if error.status_code == 404 else error.detail
    return error_page(request, error.status_code, sentence)


def _unexpected_error(request: Request, error: Exception) -> Response:
    reference = secrets.token_hex(4)
    log.error("page failed, reference %s", reference, exc_info=error)
    sentence = f"Something failed inside. The log of the sidecar says more under {reference}."
    return error_page(request, 500, sentence)


def error_page(request: Request, status: int, sentence: str) -> Response:
    return render(request, "error.html", {"status": status, "sentence": sentence}, status)
