"""Health that cannot lie: each cause turns readiness red within 60 s and is named; then green."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.core.rows import HostRow
from shared.errors import Misconfigured, Unavailable
from shared.event_store.port import StoreHealth
from shared.spool.sqlite_spool import SqliteSpool
from tests.support.builders import generation_id, pending, settled, turn
from tests.support.services.influx import start
from tests.support.sidecars import SidecarAtHand
from tests.support.waiting import wait_for

DRILL_SECONDS = 60


class Ward(SidecarAtHand):
    """A sidecar whose schedule the test plays: a minute passes as its jobs would make it."""

    def minute(self, *, hosts: tuple[str, ...] = ("pipeline-1",)) -> None:
        """Let a minute pass: hosts speak, jobs run."""
        for _ in range(4):
            self.clock.move(DRILL_SECONDS / 4)
            for name in hosts:
                self.speak(name)
            self.sidecar.run_job("drain")
            self.sidecar.run_job("refresh")
            self.sidecar.run_job("daily")

    def speak(self, name: str, ahead: float = 0, **fields: Any) -> None:
        """Let a host say how it does."""
        now = self.clock.now()
        defaults = {
            "host_id": name,
            "host_kind": name.partition("-")[0],
            "occurred_at": now + timedelta(seconds=ahead),
            "started_at": self.sidecar.started_at,
            "version": "0.1.0",
            "counters": {"queued": 7},
            "hook_p99_ms": 1.5,
        }
        spool = SqliteSpool(
            self.sidecar.settings.usage_spool_dir / f"{defaults['host_kind']}.sqlite3",
            clock=self.clock,
        )
        spool.put([HostRow(**(defaults | fields))]).result(20)
        spool.close()

    def problems(self) -> dict[str, str]:
        """Return the named causes; none means that the answer was 200."""
        answer = self.stranger.get("/ready")
        found = {each["name"]: each["sentence"] for each in answer.json()["problems"]}
        assert (answer.status_code == 200) == (not found)
        assert answer.json()["ready"] == (not found)
        return found


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    found = Ward(tmp_path, usage_spool_max_mb=1, usage_host_silent_seconds=50)
    found.minute()
    assert found.problems() == {}
    yield found
    found.close()


def break_store(ward: Ward, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Make the store answer nothing but an error, to writing, reading and trying."""

    def fails(*_: object, **__: object) -> Any:
        raise error

    for name in ("write", "fingerprints", "users", "hosts"):
        monkeypatch.setattr(ward.sidecar.store, name, fails)
    monkeypatch.setattr(ward.sidecar.store, "health", lambda: StoreHealth(False, str(error)))
    # Attempts of one delivery wait up to 15 s in between; told to stop, they do not.
    monkeypatch.setattr(ward.sidecar.stop, "wait", lambda *_: False)


def test_a_store_that_is_down_is_named_and_forgotten_when_it_is_back(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        break_store(ward, broken, Unavailable("connection refused"))
        ward.minute()
        found = ward.problems()
        assert "connection refused" in found["store"]
        assert "connection refused" in found["projection"]
        assert found["delivery"]
    ward.minute()
    ward.clock.move(30)  # the breaker's wait
    ward.minute()
    ward.minute()
    assert ward.problems() == {}


def test_a_revoked_token_is_named(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    break_store(ward, monkeypatch, Misconfigured("401: unauthorized access, check the token"))
    ward.minute()
    assert "misconfigured: 401: unauthorized" in ward.problems()["delivery"]


@pytest.mark.service
def test_a_real_store_that_hangs_or_does_not_know_the_token_is_named(tmp_path: Path) -> None:
    server = start("2.9")
    settings = server.bucket()
    token = server.token_for(settings.bucket, "read", "write")
    ward = Ward(
        tmp_path,
        influxdb_first_enabled=True,
        influxdb_url=server.url,
        influxdb_org=settings.org,
        influxdb_bucket=settings.bucket,
        influxdb_token=token,
        influxdb_write_timeout=2000,
    )
    ward.minute()
    assert ward.problems() == {}
    server.pause()
    ward.clock.move(10)
    assert "no answer within" in ward.problems()["store"]
    server.resume()
    wait_for(lambda: ward.problems() == {}, seconds=60)
    [authorization] = [
        each
        for each in server.api_get("authorizations")["authorizations"]
        if each["permissions"][0]["resource"].get("name") == settings.bucket
    ]
    url = f"{server.url}/api/v2/authorizations/{authorization['id']}"
    httpx.delete(url, headers={"Authorization": f"Token {server.token}"}).raise_for_status()
    ward.minute()
    found = ward.problems()
    assert "401" in found["delivery"]
    assert "401" in found["store"]
    ward.close()
    server.stop()


def test_a_full_spool_is_named(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    break_store(ward, monkeypatch, Unavailable("down"))
    folder = ward.sidecar.settings.usage_spool_dir
    spool = SqliteSpool(
        folder / "pipeline.sqlite3", settings=ward.sidecar.spools.manual.settings, clock=ward.clock
    )
    outcomes = []
    for first in range(0, 3000, 20):
        rows = [settled(request_id=generation_id(first + each)) for each in range(20)]
        outcomes.append(spool.put(rows).exception(20))
    spool.close()
    assert any(outcomes)
    ward.minute()
    assert "pipeline.sqlite3 is" in ward.problems()["spool_full"]


def test_a_plugin_that_does_not_report_any_more_is_named(ward: Ward) -> None:
    ward.minute(hosts=())
    assert "host pipeline-1 is silent" in ward.problems()["hosts"]


def test_a_plugin_that_was_never_loaded_is_named(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.minute(hosts=())
    assert "no plugin has reported" in ward.problems()["hosts"]
    ward.close()


def test_a_clock_that_was_set_is_named_until_it_is_long_ago(ward: Ward) -> None:
    ward.clock.move(3600)
    ward.clock_set_by = 3600
    ward.minute()
    assert "clock was set by 3600 s" in ward.problems()["clock"]
    for _ in range(11):
        ward.minute()
    ward.problems()  # the sample is taken anew with the first look after ten minutes
    assert "clock" not in ward.problems()


def test_a_host_whose_clock_is_ahead_is_named(ward: Ward) -> None:
    ward.minute(hosts=())
    ward.speak("pipeline-1", ahead=120)
    ward.sidecar.run_job("drain")
    assert "120 s ahead" in ward.problems()["clock"]


def test_a_backlog_is_named_by_its_age(tmp_path: Path) -> None:
    ward = Ward(tmp_path, usage_backlog_seconds=30)
    ward.minute()
    spool = SqliteSpool(tmp_path / "spool" / "function.sqlite3", clock=ward.clock)
    assert spool.lease("somebody who hangs", 120)
    spool.put([settled()]).result(20)
    spool.close()
    ward.minute()
    assert "the oldest of 1 waits for 60 s" in ward.problems()["backlog"]
    ward.close()


def test_a_schedule_that_stands_still_is_noticed(ward: Ward) -> None:
    ward.clock.move(4 * 60)
    ward.speak("pipeline-1")
    found = ward.problems()
    assert "delivery has not ended well since" in found["delivery"]
    assert "projection has not ended well since" in found["projection"]


def test_an_old_pending_event_is_a_warning_and_no_alarm(ward: Ward) -> None:
    ward.book([pending()], host="pipeline")
    for _ in range(2):
        ward.clock.move(5 * 86_400)
        ward.speak("pipeline-1")
        ward.sidecar.run_job("drain")
        ward.sidecar.run_job("refresh")
    answer = ward.stranger.get("/ready").json()
    assert answer["oldest_pending_day"] == "2026-11-24"
    assert [each["name"] for each in answer["warnings"]] == ["pending"]


def test_a_day_that_may_be_billed_twice_is_a_warning_and_no_alarm(tmp_path: Path) -> None:
    nameless = {"chat_id": None, "message_id": None}
    both = [
        turn(source="pipeline"),
        settled(source="webhook", cost_source="webhook", **nameless),
    ]
    for turns, warned in (("bill", ["turns"]), ("observe", [])):
        ward = Ward(tmp_path / turns, usage_turns=turns)
        ward.book(both, host="pipeline")
        ward.minute()
        answer = ward.stranger.get("/ready")
        assert answer.status_code == 200
        assert [each["name"] for each in answer.json()["warnings"]] == warned
        status = ward.client.get("/api/v1/admin/usage/service-status").json()
        assert status["mixed_days"] == (["2026-11-24"] if warned else [])
        ward.close()


def test_alive_is_no_more_than_alive(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    break_store(ward, monkeypatch, Unavailable("down"))
    answer = ward.stranger.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "alive")


def test_metrics_say_what_every_host_counted_and_what_is_covered(ward: Ward) -> None:
    ward.book([settled(), pending(request_id=generation_id(2))], host="pipeline")
    ward.speak("function-1", queued=3, oldest_age_seconds=12.5, breaker="open", write_p50_ms=4)
    ward.sidecar.run_job("drain")
    text = ward.stranger.get("/metrics").text
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["usage_ledger_ready",] == 1
    assert samples["usage_ledger_active",] == 1
    assert samples["usage_ledger_bills", "booked"] == 2
    assert samples["usage_ledger_bills", "pending"] == 1
    assert samples["usage_ledger_host_counted_total", "pipeline", "pipeline-1", "queued"] == 7
    assert samples["usage_ledger_host_latency_ms", "hook_p99_ms", "pipeline", "pipeline-1"] == 1.5
    assert samples["usage_ledger_host_info", "0.1.0", "function", "function-1"] == 1
    for name, value in (("queued", 3), ("oldest_seconds", 12.5), ("breaker_open", 1)):
        assert samples[f"usage_ledger_host_{name}", "function", "function-1"] == value
    assert samples["usage_ledger_host_breaker_open", "pipeline", "pipeline-1"] == 0
    assert samples["usage_ledger_host_latency_ms", "function", "function-1", "write_p50_ms"] == 4
    assert samples["usage_ledger_spool_rows", "pipeline.sqlite3", "queued"] == 0
    assert samples["usage_ledger_job_failing", "refresh"] == 0
    assert ("usage_ledger_job_seconds", "refresh") in samples
