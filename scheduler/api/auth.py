"""The door: who may come in, how often they may be wrong, and how much they may bring."""

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

Room = Literal["open", "admin", "webhook", "user"]
# Whatever is not named here needs the admin's token: a new page cannot be open by mistake.
OPEN_PATHS = ("/health", "/ready", "/metrics", "/docs", "/openapi.json")
# The pages have a door of their own: a session instead of a header, begun with the same token.
PAGES, PAGES_PREFIX = "/", "/ui/"
WEBHOOK_PREFIX = "/webhook/"
USER_PREFIX = "/api/v1/user/"
_TOKEN_SETTINGS = {
    "admin": "USAGE_ADMIN_TOKEN",
    "webhook": "USAGE_WEBHOOK_TOKEN",
    "user": "USAGE_USER_TOKEN",
}


class Addresses:
    """Counts failures by address in the last minute, and knows who was right in the last hour.

    An address that is wrong too often is not listened to any more; one that was right lately is,
    when it is right again: nobody behind the same proxy can lock the admin out.
    """

    def __init__(self, clock: Clock, failures_per_minute: int) -> None:
        self._clock = clock
        self._most = failures_per_minute
        self._lock = Lock()
        self._wrong: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._right: OrderedDict[str, datetime] = OrderedDict()

    def was_wrong(self, address: str) -> None:
        """Count a failure."""
        with self._lock:
            times = self._wrong.setdefault(address, deque(maxlen=self._most))
            times.append(self._clock.now())
            _forget_oldest(self._wrong, address)

    def was_right(self, address: str) -> None:
        """Remember who knows a token."""
        with self._lock:
            self._right[address] = self._clock.now()
            _forget_oldest(self._right, address)

    def is_over(self, address: str) -> bool:
        """Tell whether an address was wrong too often in the last minute."""
        with self._lock:
            times = self._wrong.get(address, deque())
            is_many = len(times) == self._most
            return is_many and timedelta(0) <= self._clock.now() - times[0] < _MINUTE

    def is_known(self, address: str) -> bool:
        """Tell whether an address was right in the last hour."""
        with self._lock:
            then = self._right.get(address)
            return then is not None and timedelta(0) <= self._clock.now() - then < _HOUR


def _forget_oldest(addresses: OrderedDict[str, Any], newest: str) -> None:
    addresses.move_to_end(newest)
    if len(addresses) > _ADDRESSES_MAX:
        addresses.popitem(last=False)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The tokens of the rooms; a room whose token is not set is closed."""

    admin: SecretStr | None
    webhook: SecretStr | None
    user: SecretStr | None

    def opens(self, room: Room, given: str) -> bool:
        """Compare in constant time, whatever the lengths."""
        token = self._token(room)
        if token is None:
            return False
        wanted = sha256(token.get_secret_value().encode()).digest()
        return compare_digest(wanted, sha256(given.encode(errors="replace")).digest())

    def has(self, room: Room) -> bool:
        """Tell whether a room has a token at all."""
        return self._token(room) is not None

    def _token(self, room: Room) -> SecretStr | None:
        return {"admin": self.admin, "webhook": self.webhook, "user": self.user}.get(room)


class Door:
    """ASGI middleware in front of everything: token, failures, activity, size of the body."""

    def __init__(
        self, app: ASGIApp, keys: Keys, addresses: Addresses, is_active: Callable[[], bool]
    ) -> None:
        self._app = app
        self._keys = keys
        self._addresses = addresses
        self._is_active = is_active

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
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
        room = room_of(scope["path"])
        if room == "open":
            return
        if not self._keys.has(room):
            raise ApiError(403, "closed", f"this is closed until {_TOKEN_SETTINGS[room]} is set")
        self._check_token(room, scope)
        if scope["method"] not in _READING and not self._is_active():
            raise ApiError(503, "passive", "another sidecar is active; this one takes nothing")

    def _check_token(self, room: Room, scope: Scope) -> None:
        address = scope["client"][0] if scope.get("client") else "unknown"
        token, is_over = _bearer(scope), self._addresses.is_over(address)
        wanted = f"send the header Authorization: Bearer <{_TOKEN_SETTINGS[room]}>"
        if token is None:
            raise ApiError(401, "unauthorized", wanted)
        is_heard = not is_over or self._addresses.is_known(address)
        if self._keys.opens(room, token) and is_heard:
            self._addresses.was_right(address)
        elif is_over:
            raise ApiError(429, "too_many_failures", "too many wrong tokens; wait a minute")
        else:
            self._addresses.was_wrong(address)
            raise ApiError(401, "unauthorized", wanted)


def room_of(path: str) -> Room:
    """Return which token a path needs."""
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
