"""Delivery to real InfluxDB servers: rights, refusals, retention and what was there before."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.core.rows import Row
from shared.delivery.delivery import Delivery
from shared.errors import Misconfigured
from shared.event_store.influx.store import InfluxStore
from shared.event_store.influx.write import InfluxSettings, InfluxSink
from shared.event_store.port import Window
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool
from tests.support.builders import NOON, generation_id, pending, settled, turn, unmetered
from tests.support.services.delivering import Delivering
from tests.support.services.influx import InfluxServer, influx_server
from tests.support.spools import MemorySpool, RecordedStop, SetClock

pytestmark = pytest.mark.service
AROUND = Window(NOON - timedelta(hours=1), NOON + timedelta(hours=1))


@pytest.fixture(params=["1.8", "2.9"])
def server(request: pytest.FixtureRequest) -> InfluxServer:
    """A running server of each version."""
    return influx_server(request.param)


@pytest.fixture
def settings(server: InfluxServer) -> Iterator[InfluxSettings]:
    """An empty bucket and the right to do everything to it."""
    settings = server.bucket()
    yield settings
    server.drop(settings.bucket)


def stored(settings: InfluxSettings) -> int:
    with closing(InfluxStore(settings)) as store:
        return len(list(store.events(AROUND)))


def state_of(settings: InfluxSettings) -> tuple[str, str, int]:
    at = Delivering(settings, rows=2)
    result = at.delivery.run_once()
    at.sink.close()
    assert at.spool.dead == {}
    return result.state, result.message.split(":")[0], len(at.spool.queue)


def test_a_wrong_token_is_told_from_a_right_one(
    server: InfluxServer, settings: InfluxSettings
) -> None:
    wrong = "admin:wrong" if server.version == "1.8" else "wrong"
    assert state_of(replace(settings, token=wrong)) == ("misconfigured", "401", 2)
    assert state_of(replace(settings, token="")) == ("misconfigured", "401", 2)
    assert state_of(settings) == ("idle", "ok", 0)


def test_a_token_that_may_only_read_writes_nothing(
    server: InfluxServer, settings: InfluxSettings
) -> None:
    read_only = server.token_for(settings.bucket, "read")
    assert state_of(replace(settings, token=read_only)) == ("misconfigured", "403", 2)
    assert stored(settings) == 0


def test_a_token_without_any_right_writes_nothing(
    server: InfluxServer, settings: InfluxSettings
) -> None:
    other = server.bucket()
    stranger = server.token_for(other.bucket, "read", "write")
    assert state_of(replace(settings, token=stranger)) == ("misconfigured", "403", 2)
    server.drop(other.bucket)


def test_a_missing_bucket_keeps_everything_until_it_is_there(
    server: InfluxServer, settings: InfluxSettings
) -> None:
    at = Delivering(replace(settings, bucket="nowhere"), rows=2)
    assert at.delivery.run_once().message.startswith("404")
    assert len(at.spool.queue) == 2
    with closing(InfluxStore(replace(settings, bucket="nowhere"))) as store:
        with pytest.raises(Misconfigured, match="not found"):
            store.usage(AROUND)
        assert not store.health().ok


def test_a_missing_organization_is_a_wrong_setting() -> None:
    server = influx_server("2.9")
    settings = server.bucket()
    assert state_of(replace(settings, org="nobody")) == ("misconfigured", "404", 2)
    assert state_of(replace(settings, org="")) == ("misconfigured", "400", 2)
    server.drop(settings.bucket)


def test_the_least_rights_are_enough(server: InfluxServer, settings: InfluxSettings) -> None:
    least = replace(
        settings,
        token=server.token_for(settings.bucket, "write"),
        read_token=server.token_for(settings.bucket, "read"),
    )
    assert Delivering(least).delivery.run_once().accepted == 8
    with closing(InfluxStore(least)) as store:
        assert (len(list(store.events(AROUND))), store.repeated(AROUND)) == (8, [])
        assert store.health().ok


def test_an_import_is_deleted_with_the_least_rights(
    server: InfluxServer, settings: InfluxSettings
) -> None:
    least = replace(
        settings,
        token=server.token_for(settings.bucket, "write"),
        read_token=server.token_for(settings.bucket, "read"),
    )
    spool = MemorySpool([settled(source="import:a"), settled(), turn(source="import:ab")])
    Delivery(spool, InfluxSink(least), "me", SetClock()).run_once()
    with closing(InfluxStore(least)) as store:
        assert store.delete_import("a") == 1
        assert {event.source for event in store.events(AROUND)} == {"function", "import:ab"}


def test_a_field_of_another_type_makes_dead_letters_of_those_rows_alone(
    server: InfluxServer, settings: InfluxSettings
) -> None:
    at = int(NOON.timestamp()) * 10**9
    server.write(settings.bucket, f'usage_events,task=x latency_ms="a text" {at}')
    delivering = Delivering(settings)
    delivering.spool = MemorySpool(
        [
            settled(request_id=generation_id(n), latency_ms=5 if n in (2, 7) else None)
            for n in range(1, 9)
        ]
    )
    delivery = Delivery(delivering.spool, delivering.sink, "me", delivering.clock)
    result = delivery.run_once()
    assert (result.accepted, result.rejected, result.state) == (6, 2, "idle")
    assert sorted(delivering.spool.dead) == [2, 7]
    assert all("field type conflict" in words for words in delivering.spool.dead.values())


def test_events_older_than_the_bucket_keeps_are_dead_letters(server: InfluxServer) -> None:
    settings = server.bucket(retention_seconds=86_400)
    now = datetime.now(UTC)
    events = [
        turn(request_id=f"turn:c:{n}", occurred_at=now - timedelta(days=9 if n == 3 else 0))
        for n in range(1, 6)
    ]
    spool = MemorySpool(events)
    Delivery(spool, InfluxSink(settings), "me", SetClock()).run_once()
    assert list(spool.dead) == [3]
    assert "retention policy" in spool.dead[3]
    assert sorted(spool.accepted) == [1, 2, 4, 5]
    server.drop(settings.bucket)


def test_the_measurement_of_the_original_system_is_refused(
    server: InfluxServer, settings: InfluxSettings
) -> None:
    server.write(settings.bucket, "usage_tracking,request_id=gen-1,model=m input_tokens=1i 1")
    original = replace(settings, measurement="usage_tracking")
    at = Delivering(original, rows=2)
    result = at.delivery.run_once()
    assert result.state == "misconfigured"
    assert "Set INFLUXDB_MEASUREMENT to a new name" in result.message
    with closing(InfluxStore(original)) as store:
        assert not store.health().ok
    assert state_of(settings) == ("idle", "ok", 0)


def test_a_retention_policy_is_named_after_a_slash() -> None:
    server = influx_server("1.8")
    settings = server.bucket()
    server.query(
        f'CREATE RETENTION POLICY "kept" ON "{settings.bucket}" DURATION INF REPLICATION 1'
    )
    kept = replace(settings, bucket=f"{settings.bucket}/kept")
    assert Delivering(kept).delivery.run_once().accepted == 8
    assert (stored(kept), stored(settings)) == (8, 0)
    server.drop(settings.bucket)


def test_a_spool_is_drained_into_the_server_once(settings: InfluxSettings, tmp_path: Path) -> None:
    clock = SetClock(NOON + timedelta(minutes=1))
    spool = SqliteSpool(tmp_path / "function.sqlite3", settings=SpoolSettings(), clock=clock)
    rows: list[Row] = [settled(), pending(), turn(), unmetered()]
    assert spool.put(rows).result(10) == ["queued"] * 4
    delivery = Delivery(spool, InfluxSink(settings), "me", clock, stop=RecordedStop(clock))
    assert delivery.run_once().accepted == 4
    assert spool.put(rows).result(10) == ["duplicate"] * 4
    assert delivery.run_once().accepted == 0
    spool.close()
    assert stored(settings) == 3


def test_rows_delivered_before_a_lost_acknowledgement_are_stored_once(
    settings: InfluxSettings,
) -> None:
    events = [settled(request_id=generation_id(n)) for n in range(50)]
    for _ in range(2):  # the second spool is the first one, restored from before the delivery
        spool = MemorySpool(events)
        assert Delivery(spool, InfluxSink(settings), "me", SetClock()).run_once().accepted == 50
    with closing(InfluxStore(settings)) as store:
        assert store.usage(AROUND)[0].amounts.events == 50
        assert store.repeated(AROUND) == []
