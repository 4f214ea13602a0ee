"""Erasure: forget a person on request, and report what cannot be forgotten here."""

import secrets
from dataclasses import dataclass
from datetime import date

from scheduler.process.running import RunningSidecar
from scheduler.services.inputs import LAST_DAY
from shared.errors import DeliveryError
from shared.event_store.sqlite.erasure import erase_person
from shared.projection.organization import ALWAYS
from shared.summary_db.reports import UsageFilter

_KEEPS_ID = "events and bills keep the bare id of the user"
_CANNOT = (
    "cannot: InfluxDB does not change the tags of points, so events there keep the bare id of the "
    "user. Deleting the user in Open WebUI leaves an id that leads to nobody"
)
_ALIASED = (
    "events of the embedded store carry an alias, the summaries follow in the background; the log "
    "of corrections keeps the bare id"
)


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What was erased; `note` says what was not. `events_changed` None: no event was touched."""

    profile_erased: bool
    events_changed: int | None
    alias: str | None
    batch_request_id: int | None
    note: str


def erase(sidecar: RunningSidecar, user_id: str, *, with_events: bool) -> Erasure:
    """Forget the name and e-mail of a user for good, and if wanted put an alias into events.

    The summaries of the user's days are projected again in the background; totals stay the same.
    """
    sidecar.drain()  # what waits in a spool would bring name and id back
    sidecar.summaries.users.erase(user_id)
    notes = ["the profile is erased"]
    try:
        sidecar.store.erase_profile(user_id)
    except DeliveryError as error:
        notes = [f"the profile is erased here, but the event store still holds it: {error}"]
    if with_events:
        notes += [_CANNOT, _ALIASED] if sidecar.store.uses_influx else [_ALIASED]
        return _alias_events(sidecar, user_id, "; ".join(notes))
    erase_person(sidecar.settings.usage_store_path, user_id, alias=None)
    return Erasure(
        profile_erased=True,
        events_changed=None,
        alias=None,
        batch_request_id=None,
        note="; ".join([*notes, _KEEPS_ID]),
    )


def _alias_events(sidecar: RunningSidecar, user_id: str, note: str) -> Erasure:
    """Put an alias into the embedded store's events, with assignments of its own."""
    summaries = sidecar.summaries
    days = _days_of(sidecar, user_id)
    alias = f"erased-{secrets.token_hex(8)}"
    moves = [
        each
        for each in summaries.organizations.directory().assignments
        if each.external_user == user_id
    ]
    for move in moves:
        summaries.users.assign(alias, move.organization_id, move.valid_from)
    changed = erase_person(sidecar.settings.usage_store_path, user_id, alias)
    if not sidecar.store.uses_influx:
        for move in moves:
            summaries.users.remove_assignment(move.assignment_id)
    request = sidecar.recompute_queue.enqueue(min(days), max(days)) if days else None
    return Erasure(
        profile_erased=True,
        events_changed=changed,
        alias=alias,
        batch_request_id=request.request_id if request else None,
        note=note,
    )


def _days_of(sidecar: RunningSidecar, user_id: str) -> list[date]:
    wanted = UsageFilter(start=ALWAYS, end=LAST_DAY, external_user=user_id)
    groups = [
        *(line.group for line in sidecar.summaries.reports.usage(wanted, ("day",))),
        *(line.group for line in sidecar.summaries.reports.unmetered(wanted, ("day",))),
    ]
    return [date.fromisoformat(group["day"]) for group in groups]
