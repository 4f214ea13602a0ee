"""The original write path and layout beside ours, each on an empty server of its own."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from random import Random
from typing import Any

import httpx
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS

from benchmarks.events import day_of_events, spooled
from benchmarks.report import Table, percentile
from benchmarks.servers import disk_mb, influxdb, resident_mb
from benchmarks.sizes import Sizes
from shared.core.event import UsageEvent
from shared.event_store.influx.line_protocol import render_line
from tests.support.services.influx import InfluxServer

_BATCH = 5000
_ORIGINAL = "usage_tracking"
_TIMEOUT_MS = 300_000


@dataclass(frozen=True)
class Timing:
    """How long the original path took at a fill level, in milliseconds."""

    stored: int
    check: list[float]
    write: list[float]

    def total(self) -> list[float]:
        """Return the time of both steps of each call."""
        return [check + write for check, write in zip(self.check, self.write, strict=True)]


def compare_layouts(sizes: Sizes, ours_p50_ms: float) -> list[Table]:
    """Time the original write path while its store fills, and measure both stores when full."""
    with influxdb() as server:
        timings, original = _fill_original(server, sizes)
    with influxdb() as server:
        ours = _fill_ours(server, sizes.held)
    rows = [
        [
            timing.stored,
            *(f"{percentile(timing.check, at):.1f}" for at in (50, 99)),
            *(f"{percentile(timing.write, at):.1f}" for at in (50, 99)),
            f"{percentile(timing.total(), 50) / ours_p50_ms:.0f} x",
        ]
        for timing in timings
    ]
    path = Table(
        title="The original write path: Flux duplicate check, then one synchronous write",
        note="The last column is its p50 beside the p50 of our `stream` hook, in the same run "
        "(target: 20 x and more). It blocked the answer of the user for all of it.",
        columns=["stored", "check p50 ms", "p99 ms", "write p50 ms", "p99 ms", "against ours"],
        rows=rows,
    )
    note = "Filled with ready-made batches of 5000, measured when full; MB are of 2^20 bytes."
    footprint = Table(
        title=f"InfluxDB holding {sizes.held} events",
        note=note,
        columns=["layout", "events/s", "disk MB", "bytes an event", "RSS MB", "sum by client s"],
        rows=[["request_id as tag", *original], ["ours", *ours]],
    )
    return [path, footprint]


def _fill_original(server: InfluxServer, sizes: Sizes) -> tuple[list[Timing], list[str]]:
    bucket = server.bucket().bucket
    timings, seconds, stored = [], 0.0, 0
    lines = map(_original_line, day_of_events(sizes.held))
    for level in sizes.stored:
        seconds += _write_all(server, bucket, islice(lines, level - stored))
        stored = level
        timings.append(_time_original_path(server, bucket, level, sizes.original_calls))
    seconds += _write_all(server, bucket, lines)
    sums = "SELECT sum(cost_usd) FROM usage_tracking GROUP BY client_org_id"
    return timings, _footprint(server, bucket, sums, sizes.held, seconds)


def _fill_ours(server: InfluxServer, count: int) -> list[str]:
    bucket = server.bucket().bucket
    rows = spooled(day_of_events(count))
    lines = (render_line(row.kind, row.json, row.store_ns, "usage_events") for row in rows)
    seconds = _write_all(server, bucket, lines)
    sums = "SELECT sum(cost_pico_usd) FROM usage_events GROUP BY client_org_id"
    return _footprint(server, bucket, sums, count, seconds)


def _footprint(
    server: InfluxServer, bucket: str, sums: str, stored: int, seconds: float
) -> list[str]:
    assert server.process is not None
    asked = _milliseconds(partial(_ask, server, bucket, sums)) / 1000
    used = disk_mb(server)
    return [
        f"{stored / seconds:.0f}",
        f"{used:.0f}",
        f"{used * 1024**2 / stored:.0f}",
        f"{resident_mb(server.process.pid):.0f}",
        f"{asked:.2f}",
    ]


def _ask(server: InfluxServer, bucket: str, query: str) -> None:
    httpx.post(
        f"{server.url}/query",
        data={"q": query, "db": bucket},
        headers={"Authorization": f"Token {server.token}"},
        timeout=_TIMEOUT_MS / 1000,
    ).raise_for_status()


def _write_all(server: InfluxServer, bucket: str, lines: Iterable[str]) -> float:
    """Write lines in batches; return the seconds that the server took."""
    seconds = 0.0
    with _client(server) as client:
        writer = client.write_api(write_options=SYNCHRONOUS)
        for body in _batches(lines):
            began = time.perf_counter()
            writer.write(bucket, server.org, body)
            seconds += time.perf_counter() - began
    return seconds


def _batches(lines: Iterable[str]) -> Iterator[bytes]:
    source = iter(lines)
    while batch := list(islice(source, _BATCH)):
        yield "\n".join(batch).encode()


def _time_original_path(server: InfluxServer, bucket: str, stored: int, calls: int) -> Timing:
    """Do what the original did for every answer: look for the id, then write the point."""
    random = Random(stored)
    timing = Timing(stored, [], [])
    with _client(server) as client:
        query, writer = client.query_api(), client.write_api(write_options=SYNCHRONOUS)
        for _ in range(calls):
            request_id = f"gen-{random.getrandbits(80):020x}"
            flux = (
                f'from(bucket: "{bucket}") |> range(start: -24h)'
                f' |> filter(fn: (r) => r._measurement == "{_ORIGINAL}")'
                f' |> filter(fn: (r) => r.request_id == "{request_id}") |> limit(n: 1)'
            )
            timing.check.append(_milliseconds(partial(query.query, flux)))
            point = _original_point(request_id, random)
            write = partial(writer.write, bucket, server.org, point)
            timing.write.append(_milliseconds(write))
    return timing


def _original_point(request_id: str, random: Random) -> Any:
    return Point.from_dict(
        {
            "measurement": _ORIGINAL,
            "tags": {
                "client_org_id": "client-1",
                "model": "openai/gpt-5-mini",
                "api_key_hash": "0123abcd",
                "external_user": "alice",
                "request_id": request_id,
            },
            "fields": {
                "input_tokens": random.randint(1, 9999),
                "output_tokens": 99,
                "total_tokens": 999,
                "cost_usd": random.random(),
                "latency_ms": 900,
            },
            "time": datetime.now(UTC),
        }
    )


def _original_line(event: UsageEvent) -> str:
    """Write an event as the original did; recent, so that its check has to look at it."""
    tags = (
        f"client_org_id={event.client_org_id},model={event.model},api_key_hash=0123abcd,"
        f"external_user={event.external_user},request_id={event.request_id}"
    )
    fields = (
        f"input_tokens={event.input_tokens}i,output_tokens={event.output_tokens}i,"
        f"total_tokens={event.total_tokens}i,cost_usd={event.cost_usd},latency_ms=900i"
    )
    recent = time.time_ns() // 10**6 - hash(event.request_id) % 80_000_000
    return f"{_ORIGINAL},{tags} {fields} {recent * 10**6}"


def _client(server: InfluxServer) -> InfluxDBClient:
    return InfluxDBClient(server.url, server.token, org=server.org, timeout=_TIMEOUT_MS)


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000
