"""A process that moves events into InfluxDB in one of three ways and prints what it took."""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions

from shared.adapters.clock import SYSTEM_CLOCK
from shared.adapters.influx_write import InfluxSettings, InfluxSink
from shared.adapters.spool import SqliteSpool
from shared.delivery import Delivery
from shared.domain.line_protocol import render_line

_BATCH = 5000
_TIMEOUT_MS = 60_000


def deliver(spool: SqliteSpool, settings: InfluxSettings) -> float:
    """Drain the spool as a host does, marks in the spool included."""
    delivery = Delivery(spool, InfluxSink(settings), "benchmark", SYSTEM_CLOCK)
    began = time.perf_counter()
    result = delivery.run_once()
    seconds = time.perf_counter() - began
    assert result.state == "idle", result.message
    delivery.release()
    return seconds


def write_ready_made(spool: SqliteSpool, settings: InfluxSettings) -> float:
    """Write batches that were made before, one synchronous request after the other."""
    lines = _lines(spool)
    batches = [lines[start : start + _BATCH] for start in range(0, len(lines), _BATCH)]
    bodies = ["\n".join(batch).encode() for batch in batches]
    with _client(settings) as client:
        writer = client.write_api(write_options=SYNCHRONOUS)
        began = time.perf_counter()
        for body in bodies:
            writer.write(settings.bucket, settings.org, body)
        return time.perf_counter() - began


def batch_in_client(spool: SqliteSpool, settings: InfluxSettings) -> float:
    """Hand lines to the client's own batching; it ends when the client has let go of all."""
    lines = _lines(spool)
    with _client(settings) as client:
        began = time.perf_counter()
        with client.write_api(write_options=WriteOptions(batch_size=_BATCH)) as writer:
            for line in lines:
                writer.write(settings.bucket, settings.org, line)
        return time.perf_counter() - began


WAYS: dict[str, Callable[[SqliteSpool, InfluxSettings], float]] = {
    "our delivery, from the spool": deliver,
    "bare loop over ready-made batches": write_ready_made,
    "influxdb-client's batching, from memory": batch_in_client,
}


def main(way: str, path: str, settings: dict[str, Any]) -> None:
    """Do it and print seconds, seconds of CPU and MB at the peak."""
    spool = SqliteSpool(Path(path))
    used = time.process_time()
    seconds = WAYS[way](spool, InfluxSettings(**settings))
    used = time.process_time() - used
    spool.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "peak_mb": peak}))


def _lines(spool: SqliteSpool) -> list[str]:
    lines: list[str] = []
    after = 0
    while rows := spool.take(_BATCH, after):
        after = rows[-1].row_id
        lines += [render_line(row.kind, row.json, row.store_ns, "usage_events") for row in rows]
    return lines


def _client(settings: InfluxSettings) -> InfluxDBClient:
    return InfluxDBClient(
        settings.url, settings.token, org=settings.org, timeout=_TIMEOUT_MS, enable_gzip=False
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
