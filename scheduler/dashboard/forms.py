"""Forms: fields of forms, and the confirmation of what changes much."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from scheduler.dashboard.pages import render
from scheduler.services.errors import Unusable
from shared.core.days import day_start
from shared.core.time import EPOCH

Text = Annotated[str, Form()]
Confirmed = Annotated[bool, Form()]


def first_instant(day: str, time_zone: str) -> datetime:
    """Return when a local day begins, 1970 without one. Raises Unusable for another text."""
    if not day:
        return EPOCH
    return day_start(day_of(day), time_zone)


def day_of(text: str) -> date:
    """Read a day as YYYY-MM-DD. Raises Unusable for another text."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Unusable(f"{text[:20]!r} is no day") from None


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
