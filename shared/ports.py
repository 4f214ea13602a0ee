"""The seams: what use cases ask of the disk, the event stores and the clock."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from shared.domain.entanglement import Identity
from shared.domain.event import UsageEvent
from shared.domain.rows import HostRow, Row, RowKind, UnmeteredRow, UserRow

PutOutcome = Literal["queued", "duplicate", "refused", "quarantined"]
BUCKET = timedelta(minutes=15)


class Clock(Protocol):
    """Time, so that tests can set it."""

    def now(self) -> datetime:
        """Return the current time in UTC."""


@dataclass(frozen=True)
class Window:
    """A half-open span of UTC time: `start` belongs to it, `end` does not."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class SpooledRow:
    """A row waiting in a spool. `store_ns` is its place in InfluxDB, fixed when it was queued."""

    row_id: int
    kind: RowKind
    event_id: str
    json: str
    store_ns: int
    attempts: int


@dataclass(frozen=True)
class OpenNote:
    """A generation that has begun: the pending event to book should its usage never come."""

    event: UsageEvent
    last_seen: datetime


@dataclass(frozen=True, kw_only=True)
class SpoolStatus:
    """Counts of a spool: rows by state, bytes, and everything refused or dropped, by reason."""

    queued: int
    dead_letters: int
    quarantined: int
    open_generations: int
    oldest_queued_at: datetime | None
    size_bytes: int
    size_limit_bytes: int
    counters: Mapping[str, int]


class Spool(Protocol):
    """The durable queue between capture and delivery; methods may be called from any thread."""

    def put(self, rows: Sequence[Row]) -> Future[list[PutOutcome]]:
        """Queue rows; the future is done when they would survive a power loss.

        A duplicate of a queued or delivered event is no error. The future ends in SpoolFull or
        another SpoolError when nothing was queued.
        """

    def note_open(self, event: UsageEvent) -> None:
        """Remember a generation that has begun, without waiting for the disk."""

    def note_seen(self, request_ids: Sequence[str]) -> None:
        """Keep open generations of this process from expiring."""

    def take(self, limit: int, after_row_id: int = 0) -> list[SpooledRow]:
        """Return the oldest queued rows, at most `limit`, without changing them."""

    def settle(
        self,
        accepted: Sequence[int] = (),
        rejected: Sequence[tuple[int, str]] = (),
        kept: Sequence[int] = (),
    ) -> None:
        """End a delivery: accepted rows are done, rejected ones dead letters, kept ones wait."""

    def lease(self, owner: str, seconds: float) -> bool:
        """Become or stay the one that delivers this spool; False while another one is."""

    def release(self, owner: str) -> None:
        """Give up the lease."""

    def status(self) -> SpoolStatus:
        """Return counts as of now."""

    def close(self) -> None:
        """Commit what waits and end the writer thread."""


@dataclass(frozen=True, kw_only=True)
class UsageSums:
    """Sums of one group of usage; token counts and pico-USD.

    `events` counts requests: an event that is a part of one adds its amounts alone. `pending`
    counts those without `cost_usd`; `estimated` those of them with an estimate.
    """

    events: int = 0
    pending: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_pico_usd: int = 0
    upstream_pico_usd: int = 0
    estimated_pico_usd: int = 0


@dataclass(frozen=True, kw_only=True)
class UsageGroup:
    """The grain at which stores add up: who, which model, which task, seen by what.

    `parts` counts the events that are parts of a request and so are not among those of the sums.
    """

    client_org_id: str
    external_user: str
    model: str
    task: str
    source: str
    sums: UsageSums
    parts: int = 0

    @property
    def observations(self) -> int:
        """How many events these are, parts included."""
        return self.sums.events + self.parts


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
class WriteResult:
    """How a batch ended, by position in it. A position in no list was not looked at and is kept."""

    accepted: list[int] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class StoreHealth:
    """Whether a store can be used; `detail` is a sentence for the admin."""

    ok: bool
    detail: str


class EventSink(Protocol):
    """Where rows are delivered."""

    name: str

    def prepare(self, rows: Sequence[SpooledRow]) -> Sequence[SpooledRow]:
        """Return the same rows, with the work done that needs no store, for `write` to take.

        From any thread, also while another batch is written.
        """

    def write(self, rows: Sequence[SpooledRow]) -> WriteResult:
        """Write a batch of any kinds; writing a row again changes nothing.

        Raises DeliveryError when the batch as a whole was not taken.
        """


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

    def identities(self, window: Window, *, answers: bool) -> Iterator[Identity]:
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
