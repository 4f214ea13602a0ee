"""Errors of the API: one shape, a message that tells what to do, never a secret."""

import logging
import secrets
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from scheduler.services.errors import NotKnown, Refused, TooMuch, Unusable
from shared.errors import (
    ConfigError,
    InvalidEvent,
    Misconfigured,
    ProjectionError,
    SpoolError,
    SpoolFull,
    Unavailable,
    UsageError,
)

log = logging.getLogger("owui_usage")

# The class is the decision: which status, and a word that a script can tell apart.
_STATUS: tuple[tuple[type[UsageError], int, str], ...] = (
    (ConfigError, 409, "unusable_value"),
    (InvalidEvent, 422, "invalid_value"),
    (SpoolFull, 503, "spool_full"),
    (SpoolError, 503, "spool_unavailable"),
    (Unavailable, 503, "store_unavailable"),
    (Misconfigured, 503, "store_misconfigured"),
    (ProjectionError, 503, "database_unavailable"),
)
_RETRY_SECONDS = "30"
_UNION_WORDS = ("bool", "decimal", "float", "int", "str")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class ProblemBody(BaseModel):
    """What went wrong: a code for scripts, a message for people, the field it is about."""

    code: str = Field(examples=["invalid_value"])
    message: str = Field(examples=["start: Input should be a valid date"])
    field: str | None = None


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ProblemBody


class ApiError(Exception):
    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        self.status = status
        self.problem = ProblemBody(code=code, message=message, field=field)
        super().__init__(message)


def error_answer(
    status: int, problem: ProblemBody, headers: dict[str, str] | None = None
) -> JSONResponse:
    found = dict(headers or {})
    if status in (429, 503):
        found.setdefault("Retry-After", _RETRY_SECONDS)
    return JSONResponse(ErrorBody(error=problem).model_dump(), status_code=status, headers=found)


def install_error_answers(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(UsageError, _usage_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def _api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error_answer(error.status, error.problem)


def refusal_status(error: Refused) -> int:
    for kind, status in ((NotKnown, 404), (TooMuch, 413), (Unusable, 422)):
        if isinstance(error, kind):
            return status
    return 409


def _usage_error(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Refused):
        problem = ProblemBody(code=error.code, message=str(error), field=error.field)
        return error_answer(refusal_status(error), problem)
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            field = getattr(error, "field", None) or getattr(error, "name", None)
            return error_answer(status, ProblemBody(code=code, message=str(error), field=field))
    return error_answer(503, ProblemBody(code="unavailable", message=str(error)))


def _invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = _field_of(first["loc"])
    message = f"{field}: {first['msg'].removeprefix('Value error, ')}"
    if isinstance(first.get("input"), int | float):
        message += f" (got {first['input']})"  # a text is not repeated: it may be a key
    return error_answer(422, ProblemBody(code="invalid_value", message=message, field=field))


def _field_of(place: Sequence[int | str]) -> str:
    """Name a field without the words that pydantic adds for the members of a union."""
    names = [
        str(part)
        for part in place[1:]
        if isinstance(part, int) or (part.isidentifier() and part not in _UNION_WORDS)
    ]
    return ".".join(names) or str(place[0])


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else {}
    if error.status_code == 400:  # FastAPI's word for bytes that are no text
        return error_answer(422, ProblemBody(code="invalid_value", message="the body is no JSON"))
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    problem = ProblemBody(code=codes.get(error.status_code, "refused"), message=error.detail)
    return error_answer(error.status_code, problem, headers)


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes of a path; the router names those of the first alone."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] == Match.FULL
            for route in request.app.routes
        )
    ]


def _unexpected(_request: Request, error: Exception) -> JSONResponse:
    reference = secrets.token_hex(4)
    log.error("request failed, reference %s", reference, exc_info=error)
    sentence = f"something failed inside; the log of the sidecar says more under {reference}"
    return error_answer(500, ProblemBody(code="internal", message=sentence))
