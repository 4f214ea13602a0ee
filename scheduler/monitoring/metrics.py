"""Metrics: the collector behind `/metrics`; no names, no prompts."""

from collections.abc import Iterator
from datetime import timedelta

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from scheduler.monitoring.health import Health, HealthReport
from scheduler.process.running import RunningSidecar
from scheduler.reports.completeness import read_completeness
from shared.core.rows import HostRow
from shared.errors import ProjectionError
from shared.summary_db.reports import UsageFilter

_COVERED_DAYS = 45
_PREFIX = "usage_ledger_"
_LATENCIES = ("hook_p50_ms", "hook_p99_ms", "write_p50_ms", "write_p99_ms")
_HOST_NUMBERS = {
    "silent_seconds": "since a host was heard of",
    "queued": "rows that wait in its spool",
    "oldest_seconds": "age of the oldest row that waits, when it was heard of",
    "breaker_open": "1 while it attempts no delivery",
}
_Family = CounterMetricFamily | GaugeMetricFamily


class LedgerCollector(Collector):
    """Reads everything anew for each scrape."""

    def __init__(self, sidecar: RunningSidecar, health: Health) -> None:
        self._sidecar = sidecar
        self._health = health

    def collect(self) -> Iterator[_Family]:
        report = self._health.report()
        yield _gauge("ready", "1 when everything that must work does", float(report.is_ready))
        yield _gauge("active", "1 for the active sidecar", float(self._sidecar.is_active))
        problems = GaugeMetricFamily(_PREFIX + "problem", "1 for each problem", labels=["name"])
        for name in sorted({problem.name for problem in report.problems}):
            problems.add_metric([name], 1)
        yield problems
        yield from _spools(report)
        yield from _hosts(report)
        yield from _jobs(report)
        yield from self._coverage(report)

    def _coverage(self, report: HealthReport) -> Iterator[_Family]:
        today = report.at.date()
        wanted = UsageFilter(
            start=today - timedelta(days=_COVERED_DAYS), end=today + timedelta(days=1)
        )
        try:
            found = read_completeness(self._sidecar.summaries.reports, wanted)
        except ProjectionError:
            return  # the health report has the problem `database`
        counts = GaugeMetricFamily(
            f"{_PREFIX}bills",
            f"bills of the last {_COVERED_DAYS} days by what is known of them",
            labels=["state"],
        )
        for state in ("booked", "settled", "pending", "estimated", "unmetered", "conflicts"):
            counts.add_metric([state], getattr(found, state))
        yield counts


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, documentation, value=value)


def _spools(report: HealthReport) -> Iterator[_Family]:
    rows = GaugeMetricFamily(_PREFIX + "spool_rows", "rows by state", labels=["spool", "state"])
    size = GaugeMetricFamily(_PREFIX + "spool_bytes", "bytes used", labels=["spool"])
    limit = GaugeMetricFamily(_PREFIX + "spool_limit_bytes", "bytes allowed", labels=["spool"])
    age = GaugeMetricFamily(
        _PREFIX + "spool_oldest_seconds", "age of the oldest row that waits", labels=["spool"]
    )
    counted = CounterMetricFamily(
        _PREFIX + "spool_counted", "what happened in a spool, ever", labels=["spool", "reason"]
    )
    breaker = GaugeMetricFamily(
        _PREFIX + "breaker_open", "1 while delivery is not attempted", labels=["spool"]
    )
    for spool in report.spools:
        status, name = spool.status, spool.name
        for state in ("queued", "dead_letters", "quarantined", "open_generations"):
            rows.add_metric([name, state], getattr(status, state))
        size.add_metric([name], status.size_bytes)
        limit.add_metric([name], status.size_limit_bytes)
        oldest = status.oldest_queued_at
        age.add_metric([name], max(0.0, (report.at - oldest).total_seconds()) if oldest else 0.0)
        breaker.add_metric([name], spool.delivery.breaker == "open")
        for reason, count in sorted(status.counters.items()):
            counted.add_metric([name, reason], count)
    yield from (rows, size, limit, age, breaker, counted)


def _hosts(report: HealthReport) -> Iterator[_Family]:
    labels = ["host", "kind"]
    info = GaugeMetricFamily(
        _PREFIX + "host_info", "1, with the version that runs", labels=[*labels, "version"]
    )
    latency = GaugeMetricFamily(
        _PREFIX + "host_latency_ms", "latencies of hooks and writes", labels=[*labels, "which"]
    )
    counted = CounterMetricFamily(
        _PREFIX + "host_counted", "what a host counted since it began", labels=[*labels, "reason"]
    )
    numbers: dict[str, _Family] = {
        name: GaugeMetricFamily(f"{_PREFIX}host_{name}", documentation, labels=labels)
        for name, documentation in _HOST_NUMBERS.items()
    }
    for host in report.hosts:
        who = [host.host_id, host.host_kind]
        info.add_metric([*who, host.version], 1)
        silent = max(0.0, (report.at - host.occurred_at).total_seconds())
        numbers["silent_seconds"].add_metric(who, silent)
        numbers["queued"].add_metric(who, host.queued)
        numbers["oldest_seconds"].add_metric(who, host.oldest_age_seconds)
        numbers["breaker_open"].add_metric(who, host.breaker == "open")
        for which, milliseconds in _latencies(host):
            latency.add_metric([*who, which], milliseconds)
        for reason, count in sorted(host.counters.items()):
            counted.add_metric([*who, reason], count)
    yield from numbers.values()
    yield from (info, latency, counted)


def _latencies(host: HostRow) -> Iterator[tuple[str, float]]:
    for which in _LATENCIES:
        milliseconds = getattr(host, which)
        if milliseconds is not None:
            yield which, milliseconds


def _jobs(report: HealthReport) -> Iterator[_Family]:
    seconds = GaugeMetricFamily(_PREFIX + "job_seconds", "how long a job took last", labels=["job"])
    succeeded = GaugeMetricFamily(
        _PREFIX + "job_succeeded_timestamp_seconds", "when it last ended well", labels=["job"]
    )
    failing = GaugeMetricFamily(_PREFIX + "job_failing", "1 while a job fails", labels=["job"])
    for name, state in sorted(report.jobs.items()):
        failing.add_metric([name], float(state.error is not None))
        if state.seconds is not None:
            seconds.add_metric([name], state.seconds)
        if state.succeeded_at is not None:
            succeeded.add_metric([name], state.succeeded_at.timestamp())
    yield from (seconds, succeeded, failing)
