"""Sessions: who has signed in to the pages, for how long, and that a form came from a page."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from hmac import compare_digest
from threading import Lock

from fastapi import HTTPException, Request
from starlette.middleware.sessions import SessionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.core.clock import Clock

SESSION_LIFETIME = timedelta(hours=12)
_COOKIE = "usage_ledger_session"
_SESSIONS_MAX = 1000
_READING = ("GET", "HEAD")


class SignInNeeded(Exception):
    """Nobody has signed in, or the session has ended."""


class Sessions:
    """Live sessions of this process; signing out or a restart ends them, whoever has the cookie."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._ends: dict[str, datetime] = {}

    def begin(self) -> str:
        """Begin a session and return its id; the oldest ends when there are too many."""
        now, session_id = self._clock.now(), secrets.token_urlsafe(24)
        with self._lock:
            self._ends = {known: end for known, end in self._ends.items() if end > now}
            if len(self._ends) >= _SESSIONS_MAX:
                del self._ends[min(self._ends, key=lambda known: self._ends[known])]
            self._ends[session_id] = now + SESSION_LIFETIME
        return session_id

    def end(self, session_id: str) -> None:
        with self._lock:
            self._ends.pop(session_id, None)

    def is_live(self, session_id: str) -> bool:
        with self._lock:
            ends_at = self._ends.get(session_id)
        return ends_at is not None and self._clock.now() < ends_at


class SessionCookie:
    """Keeps sessions in a signed cookie that scripts cannot read, sent over TLS only where it is.

    The key is new in every process, like the sessions.
    """

    def __init__(self, app: ASGIApp) -> None:
        key = secrets.token_hex(32)
        lifetime = int(SESSION_LIFETIME.total_seconds())

        def middleware(https_only: bool) -> SessionMiddleware:
            return SessionMiddleware(
                app,
                key,
                session_cookie=_COOKIE,
                max_age=lifetime,
                same_site="lax",
                https_only=https_only,
            )

        self._plain, self._secure = middleware(https_only=False), middleware(https_only=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        chosen = self._secure if scope.get("scheme") == "https" else self._plain
        await chosen(scope, receive, send)


def csrf_token(request: Request) -> str:
    """Return the CSRF token of the session, which every form sends back."""
    token: str = request.session.setdefault("csrf", secrets.token_urlsafe(24))
    return token


async def check_form(request: Request) -> None:
    """Require the CSRF token of the session. Raises HTTPException."""
    if request.method in _READING:
        return
    form = await request.form()
    given, wanted = form.get("csrf"), request.session.get("csrf")
    is_ours = isinstance(given, str) and isinstance(wanted, str) and compare_digest(given, wanted)
    if not is_ours:
        raise HTTPException(403, "this form is too old; open the page again")


def is_signed_in(request: Request) -> bool:
    sessions: Sessions = request.app.state.sessions
    return sessions.is_live(request.session.get("id", ""))


def signed_in(request: Request) -> None:
    """Require a session. Raises SignInNeeded."""
    if not is_signed_in(request):
        raise SignInNeeded


def active_only(is_active: Callable[[], bool]) -> Callable[[Request], None]:
    """Return a dependency that refuses changes while the sidecar is passive."""

    def check(request: Request) -> None:
        if request.method not in _READING and not is_active():
            raise HTTPException(503, "another sidecar is active; change things there")

    return check
