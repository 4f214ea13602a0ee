"""Authentication: bearer tokens by scope, a limiter of failures, and a bound of body sizes."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from threading import Lock
from typing import Any, Literal

from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.api.errors import ApiError, error_answer
from shared.core.clock import Clock

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_ADDRESSES_MAX = 10_000
_BODY_MAX = 8 * 1024**2
_READING = ("GET", "HEAD", "OPTIONS")

TokenScope = Literal["open", "admin", "webhook", "user"]
# Whatever is not named here needs the admin's token: a new page cannot be open by mistake.
OPEN_PATHS = ("/health", "/ready", "/metrics", "/docs", "/openapi.json")
# The pages have their own: a session instead of a header, begun with the same token.
PAGES, PAGES_PREFIX = "/", "/ui/"
WEBHOOK_PREFIX = "/webhook/"
USER_PREFIX = "/api/v1/user/"
_TOKEN_SETTINGS = {
    "admin": "USAGE_ADMIN_TOKEN",
    "webhook": "USAGE_WEBHOOK_TOKEN",
    "user": "USAGE_USER_TOKEN",
}


class FailedAuthLimiter:
    """Counts failures by address in the last minute, and successes in the last hour.

    An address with too many failures is blocked; one that succeeded within the hour is trusted
    even then, if its token is right: others behind the same proxy cannot lock the admin out.
    """

    def __init__(self, clock: Clock, failures_per_minute: int) -> None:
        self._clock = clock
        self._most = failures_per_minute
        self._lock = Lock()
        self._failures: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._successes: OrderedDict[str, datetime] = OrderedDict()

    def record_failure(self, address: str) -> None:
        with self._lock:
            times = self._failures.setdefault(address, deque(maxlen=self._most))
            times.append(self._clock.now())
            _forget_oldest(self._failures, address)

    def record_success(self, address: str) -> None:
        with self._lock:
            self._successes[address] = self._clock.now()
            _forget_oldest(self._successes, address)

    def is_blocked(self, address: str) -> bool:
        with self._lock:
            times = self._failures.get(address, deque())
            is_many = len(times) == self._most
            return is_many and timedelta(0) <= self._clock.now() - times[0] < _MINUTE

    def is_trusted(self, address: str) -> bool:
        with self._lock:
            then = self._successes.get(address)
            return then is not None and timedelta(0) <= self._clock.now() - then < _HOUR


def _forget_oldest(by_address: OrderedDict[str, Any], newest: str) -> None:
    by_address.move_to_end(newest)
    if len(by_address) > _ADDRESSES_MAX:
        by_address.popitem(last=False)


@dataclass(frozen=True, kw_only=True)
class ApiTokens:
    """One token per scope; a scope whose token is not set is closed."""

    admin: SecretStr | None
    webhook: SecretStr | None
    user: SecretStr | None

    def opens(self, scope: TokenScope, given: str) -> bool:
        """Compare in constant time, whatever the lengths."""
        token = self._token(scope)
        if token is None:
            return False
        expected = sha256(token.get_secret_value().encode()).digest()
        return compare_digest(expected, sha256(given.encode(errors="replace")).digest())

    def has(self, scope: TokenScope) -> bool:
        return self._token(scope) is not None

    def _token(self, scope: TokenScope) -> SecretStr | None:
        return {"admin": self.admin, "webhook": self.webhook, "user": self.user}.get(scope)


class AuthMiddleware:
    """ASGI middleware in front of everything: token, failures, activity, size of the body."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: ApiTokens,
        limiter: FailedAuthLimiter,
        is_active: Callable[[], bool],
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._limiter = limiter
        self._is_active = is_active

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
            await self._app(scope, _bounded(scope, receive), send)
        except ApiError as error:
            headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
            answer = error_answer(error.status, error.problem, headers)
            await answer(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        wanted = scope_of(scope["path"])
        if wanted == "open":
            return
        if not self._tokens.has(wanted):
            raise ApiError(403, "closed", f"this is closed until {_TOKEN_SETTINGS[wanted]} is set")
        self._check_token(wanted, scope)
        if scope["method"] not in _READING and not self._is_active():
            raise ApiError(503, "passive", "another sidecar is active; this one takes nothing")

    def _check_token(self, wanted: TokenScope, scope: Scope) -> None:
        address = scope["client"][0] if scope.get("client") else "unknown"
        token, is_blocked = _bearer(scope), self._limiter.is_blocked(address)
        hint = f"send the header Authorization: Bearer <{_TOKEN_SETTINGS[wanted]}>"
        if token is None:
            raise ApiError(401, "unauthorized", hint)
        is_allowed = not is_blocked or self._limiter.is_trusted(address)
        if self._tokens.opens(wanted, token) and is_allowed:
            self._limiter.record_success(address)
        elif is_blocked:
            raise ApiError(429, "too_many_failures", "too many wrong tokens; wait a minute")
        else:
            self._limiter.record_failure(address)
            raise ApiError(401, "unauthorized", hint)


def scope_of(path: str) -> TokenScope:
    if path.startswith(WEBHOOK_PREFIX):
        return "webhook"
    if path.startswith(USER_PREFIX):
        return "user"
    is_page = path == PAGES or path.startswith(PAGES_PREFIX)
    is_open = is_page or path in OPEN_PATHS or path.startswith("/docs/")
    return "open" if is_open else "admin"


def _bearer(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if kind.lower() == "bearer" else None
    return None


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Refuse a body that is announced or turns out too large."""
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > _BODY_MAX:
        raise _too_large()
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > _BODY_MAX:
            # FastAPI reads the body: of what is raised here it lets only this one through.
            raise HTTPException(413, _too_large().problem.message)
        return message

    return bounded


def _too_large() -> ApiError:
    return ApiError(413, "too_large", f"a body may have at most {_BODY_MAX // 1024**2} MB")
