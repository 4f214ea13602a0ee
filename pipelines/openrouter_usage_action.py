"""
title: My usage
author: usage-ledger
version: 0.1.0
license: MIT
description: Shows users what they used this month and the month before.

A button below every answer, there once an admin has created this Function and switched it on. It
asks the sidecar for the figures of the signed-in user and shows them in a dialog, which is stored
nowhere: an embedded page is kept with the message and shown to all whom the chat is shared with.
"""

# Saved in Open WebUI's editor the file stays as it was shipped: its formatter leaves it alone.
# fmt: off

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import date, datetime
from html import escape
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

logger = logging.getLogger("owui_usage")

_HERE, _PATH = "http://127.0.0.1:8080", "/api/v1/user/months"
_BODY_MAX, _DIALOG_SECONDS = 2_000_000, 600
_AMOUNT = r"^[0-9]{1,30}(\.[0-9]{1,30})?$"
_COST = {"raw": "what OpenRouter charged", "billed": "what your organization pays"}
_TELL = "Please tell your administrator."
_Event = Callable[[dict[str, Any]], Awaitable[object]]


class UsageNotShown(Exception):
    """Why nothing is shown: a sentence for the user, and the reason for the log."""


class ModelUsage(BaseModel):
    model: str
    events: int
    total_tokens: int
    cost_usd: str = Field(pattern=_AMOUNT)


class MonthUsage(BaseModel):
    """A month; `pending` and `unmetered` count requests whose cost is not in it."""

    start: date
    end: date
    events: int
    pending: int
    unmetered: int
    total_tokens: int
    cost_usd: str = Field(pattern=_AMOUNT)
    models: list[ModelUsage]


class Usage(BaseModel):
    """The sidecar's answer; `as_of` is local time of `time_zone`."""

    time_zone: str
    as_of: datetime | None
    cost: Literal["raw", "billed"]
    months: list[MonthUsage]


class ActionValves(BaseModel):
    """What the admin sets; an empty valve comes from the environment."""

    sidecar_url: str = Field(
        default="",
        title="Address of the sidecar",
        description="Empty: USAGE_SIDECAR_URL, else http://127.0.0.1:8080.",
    )
    user_token: str = Field(
        default="",
        repr=False,
        title="Token",
        description="The sidecar's USAGE_USER_TOKEN, never its admin token. Empty (recommended): "
        "USAGE_USER_TOKEN here too, or the file USAGE_USER_TOKEN_FILE names.",
        json_schema_extra={"input": {"type": "password"}},
    )
    timeout_seconds: float = Field(
        default=5.0, gt=0, le=60, title="Timeout (s)", description="How long the sidecar may take."
    )


class Action:
    """The button: figures of the user who is signed in, whatever the request says."""

    Valves = ActionValves
    icon_url = (
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' "
        "fill='none' stroke='black' stroke-width='2' stroke-linecap='round'%3E"
        "%3Cpath d='M4 20h16M7 16v-4M12 16V5M17 16V9'/%3E%3C/svg%3E"
    )

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def action(
        self,
        body: dict[str, Any],
        __user__: dict[str, Any] | None = None,
        __event_emitter__: _Event | None = None,
        __event_call__: _Event | None = None,
    ) -> dict[str, Any] | None:
        """Show this month and the one before; return the figures, or the sentence why not."""
        if body.get("event"):
            return None  # the page also runs every action on Regenerate
        try:
            usage = await _usage_of(str((__user__ or {})["id"]), self.valves)
            await _show(usage_html(usage), __event_call__)
            return usage.model_dump(mode="json")
        except UsageNotShown as problem:
            sentence, reason = problem.args
        except Exception as error:  # noqa: BLE001 the page writes what is raised into the chat
            sentence, reason = f"Your usage cannot be shown. {_TELL}", type(error).__name__
        logger.warning("my usage is not shown: %s", reason)
        if __event_emitter__ is not None:  # a notification is not kept with the message
            notice = {"type": "warning", "content": sentence}
            await __event_emitter__({"type": "notification", "data": notice})
        return {"error": sentence}


async def _show(html: str, call: _Event | None) -> None:
    """Show a dialog until it is closed; an API client has no page and gets none."""
    if call is None:
        return
    dialog = {"type": "confirmation", "data": {"title": "My usage", "message": html}}
    try:
        await asyncio.wait_for(call(dialog), _DIALOG_SECONDS)
    except TimeoutError:
        logger.info("my usage: a dialog was left open, and is closed")


async def _usage_of(user_id: str, valves: ActionValves) -> Usage:
    token = valves.user_token.strip() or _token_of_environment()
    if not token:
        sentence = f"Your usage cannot be shown yet, its token is not set. {_TELL}"
        raise UsageNotShown(sentence, "no token: valve, USAGE_USER_TOKEN, USAGE_USER_TOKEN_FILE")
    url = valves.sidecar_url.strip() or os.environ.get("USAGE_SIDECAR_URL", "").strip() or _HERE
    status, answer = await _ask(url, user_id, token, valves.timeout_seconds)
    if status in (401, 403, 429):
        sentence = f"The usage ledger does not let Open WebUI in. {_TELL}"
        raise UsageNotShown(sentence, f"the sidecar answered {status} to USAGE_USER_TOKEN")
    try:
        return Usage.model_validate_json(answer if status == 200 else b"")
    except ValidationError:
        sentence = "The usage ledger has no answer right now. Please try again later."
        raise UsageNotShown(sentence, f"the sidecar answered {status}, without usage") from None


async def _ask(url: str, user_id: str, token: str, seconds: float) -> tuple[int, bytes]:
    import httpx  # ships with Open WebUI; here, so that loading depends on nothing

    # Certificates are read from disk: not on the host's event loop.
    context = await asyncio.to_thread(ssl.create_default_context)
    query, headers = {"external_user": user_id}, {"Authorization": f"Bearer {token}"}
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(verify=context, timeout=seconds, trust_env=False) as client,
            client.stream("GET", url.rstrip("/") + _PATH, params=query, headers=headers) as answer,
        ):
            received = b""
            async for piece in answer.aiter_bytes():
                received += piece
                if len(received) > _BODY_MAX:
                    raise httpx.DecodingError("too large")
            return answer.status_code, received
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        sentence = "The usage ledger does not answer. Please try again later."
        reason = f"the sidecar does not answer ({type(error).__name__})"
        raise UsageNotShown(sentence, reason) from None


def _token_of_environment() -> str:
    path = os.environ.get("USAGE_USER_TOKEN_FILE", "")
    with suppress(OSError, ValueError):
        return (Path(path).read_text() if path else os.environ.get("USAGE_USER_TOKEN", "")).strip()
    return ""


def usage_html(usage: Usage) -> str:
    """Write the figures as one line of HTML: after a line break the page reads Markdown."""
    months = "".join(_month_html(month) for month in usage.months)
    at, zone = usage.as_of, _text(usage.time_zone)
    as_of = f"As of {at:%d %B %Y, %H:%M}, {zone}. " if at else ""
    return (
        '<div class="text-gray-900 dark:text-gray-100" role="region" aria-label="My usage" '
        f'tabindex="0" style="max-height:65vh;overflow:auto;line-height:1.5">{months}'
        f'<p style="margin-top:1em">{as_of}Cost is {_COST[usage.cost]}, '
        "in US dollars. Only you see this; it is not stored in the chat.</p></div>"
    )


def _month_html(month: MonthUsage) -> str:
    name = f"{month.start:%B %Y}"
    title = f'<h3 style="font-weight:600;margin-top:0.5em">{name}</h3>'
    if not month.events and not month.unmetered:
        return f"{title}<p>Nothing is booked for you in {name}.</p>"
    unknown = (
        _counted(month.pending, "request", " whose cost is not known yet"),
        _counted(month.unmetered, "request", " whose cost cannot be seen, such as titles"),
    )
    missing = " and ".join(each for each in unknown if each)
    return (
        f'{title}<p><strong style="font-size:1.5em">{_text(month.cost_usd)}</strong> USD, '
        f"{_counted(month.events, 'request') or 'no request'}, {month.total_tokens:,} tokens</p>"
        + (f"<p>Not in the cost: {missing}.</p>" if missing else "")
        + _models_html(month.models)
    )


def _models_html(models: list[ModelUsage]) -> str:
    number = 'style="text-align:right;padding-left:0.75em;white-space:nowrap"'
    name = 'style="text-align:left;overflow-wrap:anywhere"'
    rows = "".join(
        f'<tr><th scope="row" {name}>{_text(each.model)}</th><td {number}>{each.events:,}</td>'
        f"<td {number}>{each.total_tokens:,}</td><td {number}>{_text(each.cost_usd)}</td></tr>"
        for each in models
    )
    heads = "".join(
        f'<th scope="col" {name if head == "Model" else number}>{head}</th>'
        for head in ("Model", "Requests", "Tokens", "USD")
    )
    style = 'style="width:100%;margin-top:0.5em;font-size:0.9em;font-variant-numeric:tabular-nums"'
    table = f"<table {style}><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return table if models else ""


def _counted(number: int, noun: str, rest: str = "") -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}{rest}" if number else ""


def _text(foreign: str) -> str:
    """Escape a text and keep it on one line."""
    return escape(" ".join(foreign.split()))
