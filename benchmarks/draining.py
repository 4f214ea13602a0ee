"""A process that moves events into InfluxDB in one of three ways and prints its cost."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions

from benchmarks.servers import peak_mb
from shared.core.clock import SYSTEM_CLOCK
from shared.delivery.delivery import Delivery
from shared.event_store.influx.line_protocol import render_line
from shared.event_store.influx.write import InfluxSettings, InfluxSink
from shared.spool.sqlite_spool import SqliteSpool

_BATCH = 5000
_TIMEOUT_MS = 60_000
Move = Callable[[], None]


def deliver(spool: SqliteSpool, settings: InfluxSettings) -> Move:
    """Drain the spool as a host does, acknowledgements included."""
    sink = InfluxSink(replace(settings, write_timeout_ms=_TIMEOUT_MS))
    delivery = Delivery(spool, sink, "benchmark", SYSTEM_CLOCK)

    def move() -> None:
        result = delivery.run_once()
        assert result.state == "idle", result.message
        delivery.release()

    return move


def write_ready_made(spool: SqliteSpool, settings: InfluxSettings) -> Move:
    """Write prepared batches, one synchronous request after the other."""
    bodies = ["\n".join(batch).encode() for batch in _batches(spool)]

    def move() -> None:
        with _client(settings) as client:
            writer = client.write_api(write_options=SYNCHRONOUS)
            for body in bodies:
                writer.write(settings.bucket, settings.org, body)

    return move


def batch_in_client(spool: SqliteSpool, settings: InfluxSettings) -> Move:
    """Pass lines to the client's own batching; it ends when the client has sent all."""
    lines = [line for batch in _batches(spool) for line in batch]

    def move() -> None:
        with (
            _client(settings) as client,
            client.write_api(write_options=WriteOptions(batch_size=_BATCH)) as writer,
        ):
            for line in lines:
                writer.write(settings.bucket, settings.org, line)

    return move


WAYS: dict[str, Callable[[SqliteSpool, InfluxSettings], Move]] = {
    "our delivery, from the spool": deliver,
    "bare loop over ready-made batches": write_ready_made,
    "influxdb-client's batching, from memory": batch_in_client,
}


def main(way: str, path: str, settings: dict[str, Any]) -> None:
    """Print seconds, seconds of CPU and MB at the peak; preparation does not count."""
    spool = SqliteSpool(Path(path))
    move = WAYS[way](spool, InfluxSettings(**settings))
    began, used = time.perf_counter(), time.process_time()
    move()
    seconds, used = time.perf_counter() - began, time.process_time() - used
    spool.close()
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "peak_mb": peak_mb()}))


def _batches(spool: SqliteSpool) -> Iterator[list[str]]:
    after = 0
    while rows := spool.take(_BATCH, after):
        after = rows[-1].row_id
        yield [render_line(row.kind, row.json, row.point_time_ns, "usage_events") for row in rows]


def _client(settings: InfluxSettings) -> InfluxDBClient:
    return InfluxDBClient(
        settings.url, settings.token, org=settings.org, timeout=_TIMEOUT_MS, enable_gzip=False
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
