"""Ids with a slash: in an address `%2F` is part of a name, a bare slash ends it."""

import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

# No name holds it, so that none is taken for another.
_STAND_IN = "\x1f"
_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)


class EncodedSlashes:
    """ASGI middleware: servers decode `%2F` before routes are looked up; here it stays a part."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path", b"").decode("latin-1")
        if scope["type"] == "http" and _ENCODED_SLASH.search(raw):
            path = unquote(_ENCODED_SLASH.sub(_STAND_IN, raw.partition("?")[0]))
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def with_slashes(name: object) -> object:
    """Return a name from an address with its slashes back."""
    return name.replace(_STAND_IN, "/") if isinstance(name, str) else name
