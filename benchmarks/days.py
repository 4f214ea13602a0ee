"""Projecting one day, on both stores, beside the server's own time for the same queries."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import httpx

from benchmarks.events import day_of_events, noon_of_yesterday, spooled
from benchmarks.report import Table, ratio
from benchmarks.servers import influxdb
from benchmarks.sizes import Sizes
from shared.adapters.clock import SYSTEM_CLOCK
from shared.adapters.embedded_store import EmbeddedStore
from shared.adapters.influx_read import InfluxStore
from shared.adapters.summaries import open_summaries
from shared.domain.organization import OrganizationDefaults
from shared.ports import EventStore, SpooledRow
from shared.projection import Projection, ProjectionSettings
from tests.services.influx import InfluxServer

_BATCH = 5000
_RUNS = 3
_DAYS_BACK = 2
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Case:
    """A day: events, organizations, and the share of bills that were observed twice."""

    events: int
    organizations: int
    twice: float


def cases(sizes: Sizes) -> Iterator[Case]:
    """Return the days to project."""
    for events in sizes.days:
        yield Case(events, 200, 0.0)
    yield Case(sizes.days[-1], 1, 0.0)
    yield Case(sizes.days[-1], 200, 0.01)


def time_days(sizes: Sizes) -> Table:
    """Return how long it takes to project a day, and to see that nothing has changed."""
    rows: list[list[object]] = []
    with influxdb() as server:
        for case in cases(sizes):
            rows.append(_on_influxdb(server, case))
    for case in cases(sizes):
        rows.append(_on_embedded(case))
    return Table(
        title="Projecting one day, again when nothing has changed",
        note="`bare` sends the same queries once more and throws the answers away: the server's "
        "own time (target: 1.3 x; with 1 % observed twice 15 s at a million events). `refresh` "
        "looks for changes of two days and finds none. Medians of three.",
        columns=["store", "events", "clients", "twice", "project s", "bare s", "x", "refresh s"],
        rows=rows,
    )


@dataclass
class Asked:
    """The requests that a store sends, so that they can be sent again."""

    requests: list[httpx.Request] = field(default_factory=list)

    def note(self, request: httpx.Request) -> None:
        """Keep a request."""
        self.requests.append(request)

    def send_again(self) -> float:
        """Send everything once more and return the seconds until all was answered."""
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


def _on_influxdb(server: InfluxServer, case: Case) -> list[object]:
    settings = server.bucket()
    store = InfluxStore(settings, query_timeout_seconds=_PATIENCE_SECONDS)
    _fill(store, _rows_of(case))
    asked = Asked()
    # The store's own client, so that what is sent again is what it sent.
    store._query._client.event_hooks["request"].append(asked.note)
    with _projection(store) as projection:
        seconds = _median(lambda: _project(projection))
        asked.requests.clear()
        _project(projection)
        bare = _median(asked.send_again)
        refresh = _median(lambda: _refresh(projection))
    store.close()
    server.drop(settings.bucket)
    times = [f"{seconds:.2f}", f"{bare:.2f}", ratio(seconds, bare), f"{refresh:.2f}"]
    return ["InfluxDB", *_named(case), *times]


def _on_embedded(case: Case) -> list[object]:
    with tempfile.TemporaryDirectory(prefix="bench-days-") as folder:
        store = EmbeddedStore(Path(folder) / "events.sqlite3")
        _fill(store, _rows_of(case))
        with _projection(store) as projection:
            seconds = _median(lambda: _project(projection))
            refresh = _median(lambda: _refresh(projection))
        store.close()
    return ["embedded", *_named(case), f"{seconds:.2f}", "-", "-", f"{refresh:.2f}"]


@contextmanager
def _projection(store: EventStore) -> Iterator[Projection]:
    with tempfile.TemporaryDirectory(prefix="bench-summaries-") as folder:
        url = f"sqlite:///{folder}/summaries.sqlite3"
        summaries = open_summaries(url, OrganizationDefaults())
        yield Projection(store, summaries, ProjectionSettings(), SYSTEM_CLOCK)
        summaries.close()


def _project(projection: Projection) -> None:
    day = noon_of_yesterday().date()
    report = projection.project_days(day, day)
    assert not report.failures, report.failures


def _refresh(projection: Projection) -> None:
    report = projection.refresh(_DAYS_BACK)
    assert not report.failures, report.failures


def _median(call: Callable[[], object]) -> float:
    took = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return sorted(took)[_RUNS // 2]


def _rows_of(case: Case) -> Iterator[SpooledRow]:
    return spooled(day_of_events(case.events, organizations=case.organizations, twice=case.twice))


def _fill(store: EventStore, rows: Iterator[SpooledRow]) -> None:
    while batch := list(islice(rows, _BATCH)):
        result = store.write(batch)
        assert len(result.accepted) == len(batch), result


def _named(case: Case) -> list[object]:
    return [case.events, case.organizations, f"{case.twice:.0%}"]
