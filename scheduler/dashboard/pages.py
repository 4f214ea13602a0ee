"""Pages: how templates become answers, and how amounts, counts and times are written in them."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.templating import Jinja2Templates

from scheduler.dashboard.sessions import csrf_token, is_signed_in
from shared.core.days import zone_named
from shared.core.money import format_usd, from_pico

HERE = Path(__file__).resolve().parent
STATIC = HERE / "static"
_CENTS = 2


def page_templates(time_zone: str, version: str) -> Jinja2Templates:
    """Return the templates; they write times in a zone."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "usd": write_usd,
        "money": write_money,
        "count": write_count,
        "at": partial(write_time, time_zone=time_zone),
        "span": write_seconds,
    }
    environment.globals |= {
        "static": partial(_static, _digests()),
        "query": write_query,
        "time_zone": time_zone,
        "version": version,
    }
    return Jinja2Templates(env=environment)


def render(request: Request, name: str, values: Mapping[str, Any], status: int = 200) -> Response:
    templates: Jinja2Templates = request.app.state.templates
    context = {
        "csrf": csrf_token(request),
        "is_signed_in": is_signed_in(request),
        "path": request.url.path,
    }
    return templates.TemplateResponse(request, name, {**context, **values}, status)


def write_usd(pico: int) -> Markup:
    """Write pico-USD to the last digit; those beyond the cents are styled to stand back."""
    return write_money(from_pico(pico))


def write_money(amount: Decimal) -> Markup:
    """Write an exact amount; `value` holds it as the API writes it."""
    exact = format_usd(amount)
    whole, _, decimals = exact.partition(".")
    cents, rest = decimals[:_CENTS].ljust(_CENTS, "0"), decimals[_CENTS:]
    fine = Markup('<span class="fine">{}</span>').format(rest) if rest else ""
    return Markup('<data value="{}">{}.{}{}</data>').format(exact, _grouped(whole), cents, fine)


def write_count(number: int) -> str:
    return f"{number:,}"


def write_time(instant: datetime | None, time_zone: str) -> Markup:
    """Write an instant to the second in the deployment's zone."""
    if instant is None:
        return Markup("never")
    local = instant.astimezone(zone_named(time_zone))
    return Markup('<time datetime="{}">{}</time>').format(instant.isoformat(), f"{local:%F %T}")


def write_seconds(seconds: float) -> str:
    """Write a duration in one unit: `45 s`, `12 min`, `3 h`, `5 d`."""
    for unit, size, until in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds / size < until:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def write_query(
    values: Mapping[str, Any], more: Mapping[str, Any] = MappingProxyType({}), **changed: Any
) -> str:
    """Write the query of a link: some values changed, those that are None left out."""
    every = {**values, **more, **changed}
    wanted = {name: value for name, value in every.items() if value is not None}
    return "?" + urlencode(wanted)


def _grouped(whole: str) -> str:
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return sign + f"{int(digits):,}"


def _digests() -> dict[str, str]:
    return {
        path.relative_to(STATIC).as_posix(): sha256(path.read_bytes()).hexdigest()[:12]
        for path in STATIC.rglob("*")
        if path.is_file()
    }


def _static(digests: Mapping[str, str], name: str) -> str:
    """Return the address of a file; it changes with the file, so browsers may cache it."""
    return f"/ui/static/{name}?v={digests[name]}"
