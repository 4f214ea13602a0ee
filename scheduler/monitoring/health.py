"""Health: what is wrong right now, each with a name and a sentence, and warnings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from scheduler.monitoring.clock_watch import ClockWatch, seconds_since_boot
from scheduler.monitoring.heartbeat import SpoolState
from scheduler.monitoring.hosts import clocks_ahead, host_troubles, missing_hosts, silent_hosts
from scheduler.monitoring.store_probe import StoreProbe
from scheduler.process.job_log import JobState
from scheduler.process.running import RunningSidecar
from shared.core.rows import HostRow
from shared.errors import UsageError

# A job without a success for this many of its intervals has stopped.
_INTERVALS_MISSED = 3
_LEAST_SECONDS = 45.0
_FULL_FROM = 0.95
_CLOCK_SLACK = timedelta(seconds=60)
_OLD_PENDING = timedelta(days=7)


@dataclass(frozen=True)
class Problem:
    """`name` is stable, for scripts; `sentence` is for people and tells what to do."""

    name: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class HealthReport:
    """Ready means without a problem; warnings do not count."""

    at: datetime
    problems: list[Problem]
    warnings: list[Problem]
    spools: list[SpoolState]
    hosts: list[HostRow]
    jobs: dict[str, JobState]
    oldest_pending_day: date | None

    @property
    def is_ready(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class _Days:
    """Days with an unknown cost, and days with traffic that may be counted twice."""

    oldest_pending: date | None = None
    mixed: Sequence[date] = ()


class Health:
    """Checks everything that can be wrong; the store is tried every few seconds at most."""

    def __init__(
        self, sidecar: RunningSidecar, steady: Callable[[], float] = seconds_since_boot
    ) -> None:
        self._sidecar = sidecar
        self._clock_watch = ClockWatch(sidecar.clock, steady)
        self._probe = StoreProbe(sidecar.store, steady)

    def report(self) -> HealthReport:
        """Check everything now; what cannot be checked is a problem, not an error."""
        sidecar, now = self._sidecar, self._sidecar.clock.now()
        store = self._probe.read()
        problems, database = self._database(now.date())
        spools: list[SpoolState] = []
        hosts: list[HostRow] = []
        try:
            spools, hosts = sidecar.spool_states(), self._hosts(store.hosts)
        except UsageError as error:
            problems.append(Problem("spool", str(error)))
        jobs = dict(sidecar.job_log.states())
        if sidecar.is_active:
            if not store.health.ok:
                sentence = f"the event store cannot be used: {store.health.detail}"
                problems.append(Problem("store", sentence))
            problems.extend(self._work(spools, jobs, now))
            problems.extend(self._surroundings(hosts, now))
        else:
            problems.append(Problem("passive", "another sidecar is active; this one stands by"))
        return HealthReport(
            at=now,
            problems=problems,
            warnings=list(_warnings(spools, database, now)),
            spools=spools,
            hosts=hosts,
            jobs=jobs,
            oldest_pending_day=database.oldest_pending,
        )

    def _database(self, today: date) -> tuple[list[Problem], _Days]:
        """Check that the database answers and has our schema; return the days to look at."""
        summaries = self._sidecar.summaries
        try:
            days = _Days(summaries.reports.oldest_pending_day(), self._sidecar.mixed_days(today))
            if summaries.transactions.schema_is_current():
                return [], days
        except UsageError as error:
            return [Problem("database", str(error))], _Days()
        return [Problem("schema", "the schema is of another version; restart")], days

    def _work(
        self, spools: list[SpoolState], jobs: dict[str, JobState], now: datetime
    ) -> Iterator[Problem]:
        settings = self._sidecar.settings
        for spool in spools:
            yield from _spool_problems(spool, settings.usage_backlog_seconds, now)
        seconds = settings.influxdb_flush_interval / 1000
        yield from self._job("delivery", jobs.get("drain"), seconds, now)
        yield from self._job("projection", jobs.get("refresh"), settings.usage_refresh_seconds, now)
        yield from self._job("daily projection", jobs.get("daily"), 86_400, now)

    def _surroundings(self, hosts: list[HostRow], now: datetime) -> Iterator[Problem]:
        settings = self._sidecar.settings
        silent_after = timedelta(seconds=settings.usage_host_silent_seconds)
        jump = self._clock_watch.jump()
        if abs(jump) > _CLOCK_SLACK:
            sentence = f"this machine's clock was set by {jump.total_seconds():.0f} s; is it right?"
            yield Problem("clock", sentence)
        for sentence in clocks_ahead(hosts, now, _CLOCK_SLACK):
            yield Problem("clock", sentence)
        for sentences in (
            missing_hosts(hosts, settings.usage_expect_hosts, now, silent_after),
            silent_hosts(hosts, now, silent_after),
            host_troubles(hosts, now, silent_after),
        ):
            yield from (Problem("hosts", sentence) for sentence in sentences)

    def _job(
        self, what: str, state: JobState | None, interval: float, now: datetime
    ) -> Iterator[Problem]:
        if state is not None and state.error is not None:
            yield Problem(what.split()[-1], f"{what} fails: {state.error}")
            return
        last = (state.succeeded_at if state else None) or self._sidecar.started_at
        tolerated = max(_INTERVALS_MISSED * interval, _LEAST_SECONDS)
        # A time ahead is one of before the clock was set back.
        if abs((now - last).total_seconds()) > tolerated:
            yield Problem(what.split()[-1], f"{what} has not ended well since {last:%F %T} UTC")

    def _hosts(self, elsewhere: Sequence[HostRow]) -> list[HostRow]:
        """Return the newest row of every host: from its spool if that is here, else the store's.

        A spool has it first, and forgets rows from before a clock was set back.
        """
        newest = {row.host_id: row for row in (*elsewhere, *self._sidecar.hosts_here())}
        return [newest[host_id] for host_id in sorted(newest)]


def _spool_problems(spool: SpoolState, backlog_seconds: int, now: datetime) -> Iterator[Problem]:
    status, delivery = spool.status, spool.delivery
    if delivery.state in ("misconfigured", "unavailable", "breaker_open"):
        yield Problem("delivery", f"{spool.name} is {delivery.state}: {delivery.message}")
    used = status.size_bytes / status.size_limit_bytes
    if used >= _FULL_FROM:
        yield Problem(
            "spool_full",
            f"{spool.name} is {used:.0%} full and refuses events; let it drain, look at its dead "
            "letters, or raise USAGE_SPOOL_MAX_MB",
        )
    oldest = status.oldest_queued_at
    if oldest is not None and (now - oldest).total_seconds() > backlog_seconds:
        age = (now - oldest).total_seconds()
        yield Problem(
            "backlog", f"{spool.name}: the oldest of {status.queued} waits for {age:.0f} s"
        )


def _warnings(spools: list[SpoolState], days: _Days, now: datetime) -> Iterator[Problem]:
    for spool in spools:
        for count, what in (
            (spool.status.dead_letters, "dead letters"),
            (spool.status.quarantined, "quarantined events"),
        ):
            if count:
                yield Problem("aside", f"{spool.name}: {count} {what}; see `spool dead-letters`")
    pending = days.oldest_pending
    if pending is not None and now.date() - pending > _OLD_PENDING:
        yield Problem("pending", f"events of {pending} are still pending: their cost is unknown")
    if days.mixed:
        yield Problem(
            "turns",
            f"{', '.join(map(str, days.mixed))}: whole answers and generations of a webhook or an "
            "import were billed; where they are the same traffic, set USAGE_TURNS=observe",
        )
