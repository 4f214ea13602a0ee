"""Pages: signing in with the admin's token, and signing out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from scheduler.api.auth import ApiTokens, FailedAuthLimiter
from scheduler.dashboard.forms import redirect
from scheduler.dashboard.pages import render
from scheduler.dashboard.sessions import Sessions, check_form, is_signed_in

router = APIRouter(dependencies=[Depends(check_form)])

_WRONG = "This is not the token."
_WAIT = "Too many wrong tokens. Wait a minute, then try again."


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> Response:
    if is_signed_in(request):
        return redirect(local_path(next))
    return _form(request, next, "")


@router.post("/sign-in")
def sign_in(
    request: Request, token: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/"
) -> Response:
    """Begin a session with the admin token; its limit of wrong ones is the API's."""
    tokens: ApiTokens = request.app.state.tokens
    limiter: FailedAuthLimiter = request.app.state.limiter
    address = request.client.host if request.client else "unknown"
    is_blocked = limiter.is_blocked(address)
    if tokens.opens("admin", token.strip()) and (not is_blocked or limiter.is_trusted(address)):
        limiter.record_success(address)
        sessions: Sessions = request.app.state.sessions
        request.session.clear()
        request.session["id"] = sessions.begin()
        return redirect(local_path(next))
    if is_blocked:
        return _form(request, next, _WAIT, 429)
    limiter.record_failure(address)
    return _form(request, next, _WRONG, 401)


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    sessions: Sessions = request.app.state.sessions
    sessions.end(request.session.get("id", ""))
    request.session.clear()
    return redirect("/ui/sign-in")


def local_path(wanted: str) -> str:
    """Return an address of these pages, the overview for any other."""
    is_ours = wanted.startswith("/ui/") and not set("\\\r\n") & set(wanted)
    return wanted if is_ours else "/"


def _form(request: Request, next: str, trouble: str, status: int = 200) -> Response:
    tokens: ApiTokens = request.app.state.tokens
    values = {"next": local_path(next), "trouble": trouble, "is_closed": not tokens.has("admin")}
    return render(request, "sign_in.html", values, status)
