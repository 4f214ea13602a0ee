"""Erasure: forgetting a person on request, and saying plainly what cannot be forgotten here."""

import secrets
from dataclasses import dataclass
from datetime import date

from scheduler.running import RunningSidecar
from shared.adapters.embedded_erasure import erase_person
from shared.ports_admin import UsageFilter

_FIRST_DAY, _LAST_DAY = date(1970, 1, 1), date(2199, 12, 31)


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What was erased. `events_changed` None means that the event store cannot change events."""

    profile_erased: bool
    events_changed: int | None
    alias: str | None
    batch_request_id: int | None
    note: str


def erase(sidecar: RunningSidecar, user_id: str, *, with_events: bool) -> Erasure:
    """Forget the name and e-mail of a user for good, and if wanted put an alias into events.

    The summaries of the user's days are projected again in the background; totals stay the same.
    """
    sidecar.summaries.erase_user(user_id)
    if not with_events:
        return Erasure(
            profile_erased=True,
            events_changed=None,
            alias=None,
            batch_request_id=None,
            note="the profile is erased; events and bills keep the bare id of the user",
        )
    if sidecar.settings.influxdb_first_enabled:
        return Erasure(
            profile_erased=True,
            events_changed=None,
            alias=None,
            batch_request_id=None,
            note="cannot: InfluxDB does not change the tags of points, so events keep the bare id "
            "of the user; the profile is erased. Deleting the user in Open WebUI leaves an id "
            "that leads to nobody",
        )
    return _erase_from_events(sidecar, user_id)


def _erase_from_events(sidecar: RunningSidecar, user_id: str) -> Erasure:
    days = _days_of(sidecar, user_id)
    alias = f"erased-{secrets.token_hex(8)}"
    sidecar.drain()  # what waits in a spool would bring the id back
    moves = [
        move for move in sidecar.summaries.directory().assignments if move.external_user == user_id
    ]
    for move in moves:
        sidecar.summaries.assign_user(alias, move.organization_id, move.valid_from)
    changed = erase_person(sidecar.settings.usage_store_path, user_id, alias)
    for move in moves:
        sidecar.summaries.remove_assignment(move.assignment_id)
    asked = sidecar.batches.ask(min(days), max(days)) if days else None
    return Erasure(
        profile_erased=True,
        events_changed=changed,
        alias=alias,
        batch_request_id=asked.request_id if asked else None,
        note="the profile is erased and events carry an alias; the summaries follow in the "
        "background. The log of corrections keeps the bare id",
    )


def _days_of(sidecar: RunningSidecar, user_id: str) -> list[date]:
    wanted = UsageFilter(start=_FIRST_DAY, end=_LAST_DAY, external_user=user_id)
    lines = [
        *(line.group for line in sidecar.books.usage(wanted, ("day",))),
        *(line.group for line in sidecar.books.unmetered(wanted, ("day",))),
    ]
    return [date.fromisoformat(group["day"]) for group in lines]
