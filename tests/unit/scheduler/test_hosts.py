"""Which hosts are missing, silent, in trouble or off the clock, and which were only restarted."""

from datetime import timedelta
from typing import Any

import pytest

from scheduler.monitoring.hosts import clocks_ahead, host_troubles, missing_hosts, silent_hosts
from shared.core.rows import HostRow
from tests.support.builders import NOON

SILENT = timedelta(seconds=300)


def host(name: str = "pipeline-1", *, age: float = 10, up: float = 3600, **fields: Any) -> HostRow:
    defaults = {
        "host_id": name,
        "host_kind": name.partition("-")[0],
        "occurred_at": NOON - timedelta(seconds=age),
        "started_at": NOON - timedelta(seconds=up),
        "version": "1",
    }
    return HostRow(**(defaults | fields))


def missing(expected: str, *hosts: HostRow) -> list[str]:
    return list(missing_hosts(hosts, expected, NOON, SILENT))


def silent(*hosts: HostRow) -> list[str]:
    return list(silent_hosts(hosts, NOON, SILENT))


def test_no_plugin_at_all_is_missed() -> None:
    assert "no plugin has reported" in missing("any")[0]
    assert "no plugin has reported" in missing("any", host("sidecar-1"))[0]
    assert missing("any", host()) == []
    assert missing("none") == []


@pytest.mark.parametrize(
    ("expected", "count"),
    [("pipeline", 0), ("function", 1), ("pipeline,function", 1), ("pipeline:2,function", 2)],
)
def test_expected_hosts_are_counted_by_kind(expected: str, count: int) -> None:
    assert len(missing(expected, host())) == count


def test_a_host_that_fell_silent_is_named() -> None:
    assert silent(host(age=299)) == []
    assert "host pipeline-1 is silent for 301 s" in silent(host(age=301))[0]


def test_a_restarted_host_is_not_missed_under_its_old_name() -> None:
    assert silent(host(age=900), host("pipeline-2", up=880)) == []


def test_one_successor_does_not_stand_for_two() -> None:
    fallen = [host(age=900), host("pipeline-2", age=900)]
    assert len(silent(*fallen, host("pipeline-3", up=880))) == 1


def test_an_older_host_or_one_of_another_kind_is_no_successor() -> None:
    assert len(silent(host(age=900), host("pipeline-2", up=7200))) == 1
    assert len(silent(host(age=900), host("function-2", up=880))) == 1


def test_a_host_that_is_gone_for_a_day_is_forgotten() -> None:
    assert silent(host(age=86_401)) == []


def test_a_host_in_trouble_is_quoted_while_it_is_heard() -> None:
    def troubles(**fields: Any) -> list[str]:
        row = host(delivery_state="misconfigured", message="token revoked", **fields)
        return list(host_troubles([row], NOON, SILENT))

    assert troubles() == ["host pipeline-1 says misconfigured: token revoked"]
    assert troubles(age=400) == []


def test_a_host_that_speaks_from_the_future_is_named() -> None:
    assert list(clocks_ahead([host(age=-59)], NOON, timedelta(seconds=60))) == []
    [sentence] = clocks_ahead([host(age=-90)], NOON, timedelta(seconds=60))
    assert "pipeline-1 is 90 s ahead" in sentence
