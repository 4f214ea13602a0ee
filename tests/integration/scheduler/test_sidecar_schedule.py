"""The schedule: times and intervals from the settings, nothing missed, a failure stops nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from scheduler.process.jobs import follow_clock, ledger_jobs, scheduled
from shared.core.days import ONE_DAY
from shared.errors import Unavailable
from shared.spool.sqlite_spool import SqliteSpool
from shared.summary_db.reports import UsageFilter
from tests.support.builders import NOON, NOON_SECONDS, generation_id, settled
from tests.support.sidecars import SidecarAtHand
from tests.support.waiting import wait_for


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SidecarAtHand]:
    found = SidecarAtHand(
        tmp_path,
        usage_daily_at=time(6, 30),
        usage_timezone="America/New_York",
        usage_refresh_seconds=17,
        usage_audit_days=30,
    )
    yield found
    found.close()


def test_times_zone_and_intervals_come_from_the_settings(desk: SidecarAtHand) -> None:
    scheduler = scheduled(ledger_jobs(desk.sidecar))
    scheduler.start(paused=True)
    jobs = {job.id: job for job in scheduler.get_jobs()}
    scheduler.shutdown()
    daily = jobs["daily"].trigger.get_next_fire_time(None, datetime(2026, 11, 24, 0, tzinfo=UTC))
    assert daily.astimezone(UTC) == datetime(2026, 11, 24, 11, 30, tzinfo=UTC)
    assert jobs["refresh"].trigger.interval == timedelta(seconds=17)
    for job in jobs.values():
        assert (job.coalesce, job.max_instances, job.misfire_grace_time) == (True, 1, 3600)


def test_a_clock_that_is_set_back_does_not_stop_the_schedule(desk: SidecarAtHand) -> None:
    scheduler = scheduled(ledger_jobs(desk.sidecar))
    scheduler.start(paused=True)
    before = {job.id: job.next_run_time for job in scheduler.get_jobs()}
    follow_clock(scheduler)
    assert {job.id: job.next_run_time for job in scheduler.get_jobs()} == before
    for job in scheduler.get_jobs():
        scheduler.modify_job(job.id, next_run_time=job.next_run_time + 30 * ONE_DAY)
    follow_clock(scheduler)
    now, after = datetime.now(UTC), {job.id: job.next_run_time for job in scheduler.get_jobs()}
    scheduler.shutdown()
    assert after["drain"] <= now + timedelta(seconds=1)
    assert after["refresh"] <= now + timedelta(seconds=17)
    assert (after["daily"], after["weekly"]) == (next_daily(desk), before["weekly"])


def next_daily(desk: SidecarAtHand) -> datetime:
    [job] = [job for job in ledger_jobs(desk.sidecar) if job.name == "daily"]
    found = job.trigger.get_next_fire_time(None, datetime.now(UTC))
    assert isinstance(found, datetime)
    return found


def test_days_that_were_missed_for_a_week_are_caught_up(desk: SidecarAtHand) -> None:
    days = 8
    for number in range(days):
        spool = SqliteSpool(
            desk.sidecar.settings.usage_spool_dir / "function.sqlite3", clock=desk.clock
        )
        at = NOON + number * ONE_DAY
        seconds = NOON_SECONDS + number * 86_400
        spool.put([settled(request_id=generation_id(1, seconds), occurred_at=at)]).result(20)
        spool.close()
        desk.clock.move(86_400)
    desk.sidecar.run_job("drain")
    desk.sidecar.run_job("daily")
    lines = desk.sidecar.summaries.reports.usage(week(), ["day"])
    assert [line.amounts.events for line in lines] == [1] * days


def week() -> UsageFilter:
    return UsageFilter(start=NOON.date() - ONE_DAY, end=NOON.date() + 30 * ONE_DAY)


def test_a_job_that_fails_is_on_record_and_comes_again(
    desk: SidecarAtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise Unavailable("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(desk.sidecar.store, "fingerprints", fails)
        desk.sidecar.run_job("refresh")
    [refresh] = [line for line in desk.sidecar.schedule() if line.name == "refresh"]
    assert refresh.error == "no day: Unavailable: no answer"
    assert refresh.succeeded_at is None
    desk.sidecar.run_job("refresh")
    [refresh] = [line for line in desk.sidecar.schedule() if line.name == "refresh"]
    assert (refresh.error, refresh.succeeded_at) == (None, desk.clock.now())


def test_a_daily_run_that_failed_is_made_up_for_when_the_store_is_back(
    desk: SidecarAtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise Unavailable("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(desk.sidecar.store, "fingerprints", fails)
        desk.sidecar.run_job("daily")
        desk.sidecar.run_job("refresh")
        assert desk.sidecar.job_log.states()["daily"].error is not None
    desk.sidecar.run_job("refresh")
    assert desk.sidecar.job_log.states()["daily"].error is None


def test_a_passive_sidecar_runs_no_job(tmp_path: Path, desk: SidecarAtHand) -> None:
    passive = SidecarAtHand(tmp_path)
    passive.sidecar.run_job("refresh")
    assert "refresh" not in passive.sidecar.job_log.states()
    passive.close()


def test_old_records_of_runs_are_pruned(desk: SidecarAtHand) -> None:
    desk.book([settled()])
    assert desk.sidecar.summaries.runs.newest()
    desk.clock.move(31 * 86_400)
    desk.sidecar.run_job("prune")
    assert desk.sidecar.summaries.runs.newest() == []


def test_the_schedule_starts_and_ends(desk: SidecarAtHand) -> None:
    desk.sidecar.start()
    wait_for(lambda: desk.sidecar.job_log.states().get("refresh"))
    [line] = [line for line in desk.sidecar.schedule() if line.name == "refresh"]
    assert line.next_run_at is not None
    wait_for(lambda: desk.sidecar.hosts_here())
    [host] = desk.sidecar.hosts_here()
    assert (host.host_kind, host.message) == ("sidecar", "ok")
