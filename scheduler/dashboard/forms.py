"""Forms: fields become inputs of services, and what changes much asks for confirmation."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, TypeVar

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from scheduler.api.errors import ApiError
from scheduler.dashboard.pages import render
from scheduler.services.inputs import Input
from shared.core.days import day_start
from shared.core.time import EPOCH

AnyInput = TypeVar("AnyInput", bound=Input)
Text = Annotated[str, Form()]
Confirmed = Annotated[bool, Form()]


def parse_form(kind: type[AnyInput], **fields: object) -> AnyInput:
    """Return the input of a service from a form; an empty field was left out.

    Raises ApiError that names the first field that cannot be used.
    """
    given = {name: value for name, value in fields.items() if value not in ("", None)}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "form"
        words = f"{field.replace('_', ' ')}: {first['msg']}"
        raise ApiError(422, "invalid_value", words, field) from None


def first_instant(day: str, time_zone: str) -> datetime:
    """Return when a local day begins, 1970 without one. Raises ApiError for another text."""
    if not day:
        return EPOCH
    return day_start(day_of(day), time_zone)


def day_of(text: str) -> date:
    """Read a day as YYYY-MM-DD. Raises ApiError for another text."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ApiError(422, "invalid_value", f"{text[:20]!r} is no day") from None


def confirm(
    request: Request,
    title: str,
    sentences: Sequence[str],
    fields: Mapping[str, str | Sequence[str]],
    back: str,
) -> Response:
    """Ask before a change, with its effects in numbers; the form comes back with `confirmed`."""
    flat = [
        (name, value)
        for name, values in fields.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    values = {"title": title, "sentences": sentences, "fields": flat, "back": back}
    return render(request, "confirm.html", values)


def redirect(address: str) -> Response:
    return RedirectResponse(address, 303)
