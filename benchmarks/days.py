"""Projecting one day, on both stores, compared with the server's time for the same queries."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from random import Random

import httpx

from benchmarks.events import day_of_events, noon_of_yesterday, observed_again, spooled
from benchmarks.report import Table, print_interim, ratio
from benchmarks.servers import influxdb
from benchmarks.sizes import Sizes
from shared.core.clock import SYSTEM_CLOCK
from shared.core.event import UsageEvent
from shared.event_store.influx.store import InfluxStore
from shared.event_store.port import EventStore
from shared.event_store.sqlite.store import EmbeddedStore
from shared.projection.organization import OrganizationDefaults
from shared.projection.projection import Projection, ProjectionSettings
from shared.summary_db.database import open_summaries

_BATCH = 5000
# Medians of so many; where one alone takes long enough to even out what disturbs it, of one.
_RUNS, _LONG_DAY = 3, 1_000_000
_DAYS_BACK = 2
_ORGANIZATIONS = (200, 1)
_OBSERVED_TWICE = 0.01
_PATIENCE_SECONDS = 300.0


def time_days(sizes: Sizes) -> Table:
    """Return how long it takes to project a day, and to find that nothing has changed."""
    rows: list[list[object]] = []
    for on_store in (_on_influxdb, _on_embedded):
        for events in sizes.days:
            for organizations in _ORGANIZATIONS:
                for row in on_store(events, organizations):
                    rows.append(row)
                    print_interim(*row)
    return Table(
        title="Projecting one day, again when nothing has changed",
        note="`bare` sends the same queries once more and throws the answers away: the server's "
        "own time (target: 1.3 x; with 1 % observed twice 15 s at a million events). `refresh` "
        "looks for changes of two days and finds none. Medians of three; a day of a million once.",
        columns=["store", "events", "clients", "twice", "project s", "bare s", "x", "refresh s"],
        rows=rows,
    )


@dataclass
class Asked:
    """The requests of a store, kept to be sent again."""

    requests: list[httpx.Request] = field(default_factory=list)

    def note(self, request: httpx.Request) -> None:
        self.requests.append(request)

    def send_again(self) -> float:
        """Send all requests once more and return the seconds that this took."""
        began = time.perf_counter()
        with httpx.Client(timeout=_PATIENCE_SECONDS) as client:
            for request in self.requests:
                answer = client.send(
                    httpx.Request(
                        request.method, request.url, headers=request.headers, content=request.read()
                    ),
                    stream=True,
                )
                for _ in answer.iter_raw():
                    pass
                answer.close()
        return time.perf_counter() - began


def _on_influxdb(events: int, organizations: int) -> Iterator[list[object]]:
    with influxdb() as server:
        settings = replace(server.bucket(), write_timeout_ms=int(_PATIENCE_SECONDS * 1000))
        store = InfluxStore(settings, query_timeout_seconds=_PATIENCE_SECONDS)
        asked = Asked()
        # The store's own client, so that what is sent again is what it sent.
        store._query._client.event_hooks["request"].append(asked.note)
        for twice in _fill_in_steps(store, events, organizations):
            yield ["InfluxDB", events, organizations, twice, *_times(store, asked, _runs(events))]
        store.close()


def _on_embedded(events: int, organizations: int) -> Iterator[list[object]]:
    with tempfile.TemporaryDirectory(prefix="bench-days-") as folder:
        store = EmbeddedStore(Path(folder) / "events.sqlite3")
        for twice in _fill_in_steps(store, events, organizations):
            yield ["embedded", events, organizations, twice, *_times(store, None, _runs(events))]
        store.close()


def _fill_in_steps(store: EventStore, events: int, organizations: int) -> Iterator[str]:
    """Fill a store with a day, and observe a share of its bills a second time."""
    random, again = Random(2), []
    day = day_of_events(events, organizations=organizations)
    while batch := list(islice(day, _BATCH)):
        _write(store, batch)
        again += [event for event in batch if random.random() < _OBSERVED_TWICE]
    yield "0%"
    for start in range(0, len(again), _BATCH):
        _write(store, [observed_again(event) for event in again[start : start + _BATCH]])
    yield f"{_OBSERVED_TWICE:.0%}"


def _write(store: EventStore, events: Sequence[UsageEvent]) -> None:
    result = store.write(list(spooled(events)))
    assert len(result.accepted) == len(events), result


def _runs(events: int) -> int:
    return 1 if events >= _LONG_DAY else _RUNS


def _times(store: EventStore, asked: Asked | None, runs: int) -> list[str]:
    """Project the day a few times; for a server, also time the queries alone."""
    with _projection(store) as projection:
        seconds = _median(runs, lambda: _project(projection))
        bare, times = 0.0, "-"
        if asked is not None:
            asked.requests.clear()
            _project(projection)
            bare = _median(runs, asked.send_again)
            times = f"{bare:.2f}"
        refresh = _median(runs, lambda: _refresh(projection))
    return [f"{seconds:.2f}", times, ratio(seconds, bare), f"{refresh:.2f}"]


@contextmanager
def _projection(store: EventStore) -> Iterator[Projection]:
    with tempfile.TemporaryDirectory(prefix="bench-summaries-") as folder:
        url = f"sqlite:///{folder}/summaries.sqlite3"
        summaries = open_summaries(url, OrganizationDefaults())
        yield Projection(store, summaries.days, ProjectionSettings(), SYSTEM_CLOCK)
        summaries.close()


def _project(projection: Projection) -> None:
    day = noon_of_yesterday().date()
    report = projection.project_days(day, day)
    assert not report.failures, report.failures


def _refresh(projection: Projection) -> None:
    report = projection.refresh(_DAYS_BACK)
    assert not report.failures, report.failures


def _median(runs: int, call: Callable[[], object]) -> float:
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return sorted(took)[runs // 2]
