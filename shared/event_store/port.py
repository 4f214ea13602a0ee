"""The seam to where events live: what a projection and the reports read."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from shared.core.amounts import Amounts
from shared.core.event import UsageEvent
from shared.core.rows import HostRow, UnmeteredRow, UserRow
from shared.delivery.port import EventSink
from shared.event_store.overlaps import EventIdentity

BUCKET = timedelta(minutes=15)


@dataclass(frozen=True)
class Window:
    """A half-open span of UTC time: `start` belongs to it, `end` does not."""

    start: datetime
    end: datetime


@dataclass(frozen=True, kw_only=True)
class UsageGroup:
    """The grain at which stores add up: who, which model, which task, seen by what.

    `parts` counts the events that are parts of a request and so are not among those of the amounts.
    """

    client_org_id: str
    external_user: str
    model: str
    task: str
    source: str
    amounts: Amounts
    parts: int = 0

    @property
    def observations(self) -> int:
        """How many events these are, parts included."""
        return self.amounts.events + self.parts


@dataclass(frozen=True)
class Fingerprint:
    """What a store holds of one 15-minute bucket: enough to see that it changed.

    A store tells of its events; `unmetered` rows are counted by who compares.
    """

    events: int
    cost_pico_usd: int
    total_tokens: int
    unmetered: int = 0


@dataclass(frozen=True)
class StoreHealth:
    """Whether a store can be used; `detail` is a sentence for the admin."""

    ok: bool
    detail: str


class EventStore(EventSink, Protocol):
    """Where events live. A read raises Unavailable or Misconfigured, never answers in half.

    `shows_batches_whole` tells whether what is being written is seen as a whole or not at all; else
    a point may for a moment show some of its fields.
    """

    shows_batches_whole: bool

    def usage(self, window: Window) -> list[UsageGroup]:
        """Add up all events of the window, each observation: not yet what was billed."""

    def repeated(self, window: Window) -> Collection[UsageEvent]:
        """Return the events of every bill that the window holds more than one observation of.

        Bills that were observed once may be among them, whole too. None in most windows.
        """

    def grains(self, window: Window) -> set[str]:
        """Return which of `generation` and `turn` the events of the window are."""

    def identities(self, window: Window, *, answers: bool) -> Iterator[EventIdentity]:
        """Return the identity of every event of the window; chat and message only if `answers`.

        Those of other events in the seconds that the window's edges cut may be among them.
        """

    def events(self, window: Window) -> Iterator[UsageEvent]:
        """Return all events of the window, every observation once, in no promised order."""

    def events_about(
        self,
        window: Window,
        request_ids: Collection[str] = (),
        message_ids: Collection[str] = (),
    ) -> Iterator[UsageEvent]:
        """Return those events of the window that have one of these ids, as `events` would."""

    def fingerprints(self, window: Window) -> dict[datetime, Fingerprint]:
        """Return what each 15-minute bucket of the window holds; empty buckets are left out."""

    def unmetered(self, window: Window) -> list[UnmeteredRow]:
        """Return the unmetered rows of the window."""

    def hosts(self) -> list[HostRow]:
        """Return the newest row of every host."""

    def users(self) -> list[UserRow]:
        """Return the newest row of every user."""

    def delete_import(self, import_id: str) -> int:
        """Delete exactly the events with source `import:<import_id>`; return how many."""

    def health(self) -> StoreHealth:
        """Try the store; never raises."""
