"""Imports into real InfluxDB servers, out of them, and from the original's layout in them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from migration_tools.backups.rollback import COPY_STAYS
from migration_tools.cli import app
from shared.core.event import UsageEvent
from shared.errors import Misconfigured
from shared.event_store.influx.store import InfluxStore
from shared.event_store.influx.write import InfluxSettings
from tests.support.builders import (
    ALICE,
    BOB,
    NOON,
    generation_id,
    pending,
    settled,
    turn,
    unmetered,
)
from tests.support.legacy import FIRST_DAY, believable_requests, legacy_database
from tests.support.migrations import EVER, Lab, influx_environment, lab_in, store_rows
from tests.support.services.influx import InfluxServer, Version, influx_server

pytestmark = pytest.mark.service
LAST_DAY = FIRST_DAY + timedelta(days=4)
SPAN = ("--start-date", str(FIRST_DAY), "--end-date", str(LAST_DAY))
DAY = NOON.date()


@pytest.fixture(params=["1.8", "2.9"])
def server(request: pytest.FixtureRequest) -> InfluxServer:
    version: Version = request.param
    return influx_server(version)


@pytest.fixture
def bucket(server: InfluxServer) -> Iterator[InfluxSettings]:
    settings = server.bucket()
    yield settings
    server.drop(settings.bucket)


@pytest.fixture
def lab(bucket: InfluxSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return lab_in(tmp_path, monkeypatch, **influx_environment(bucket))


def count(server: InfluxServer, bucket: InfluxSettings, where: str = "") -> int:
    query = f"SELECT count(request_id) FROM usage_events {where}"  # noqa: S608
    series = server.query(query, bucket.bucket).get("series", [])
    return series[0]["values"][0][1] if series else 0


def test_legacy_days_come_in_are_verified_and_go_again_while_live_events_stay(
    lab: Lab, server: InfluxServer, bucket: InfluxSettings
) -> None:
    made = believable_requests()
    legacy_database(lab.folder / "webui.db", made)
    output = lab.run("migrate", *SPAN)
    lab.run("migrate", *SPAN)
    assert count(server, bucket) == len(made)
    assert lab.run("verify", *SPAN)["differences"] == []
    assert sum(row[-1] for row in lab.summaries(FIRST_DAY, LAST_DAY)) == sum(
        each.nano_usd * 1000 for each in made
    )
    live = settled(occurred_at=datetime(2025, 1, 3, 15, tzinfo=UTC), client_org_id="acme")
    lab.put([live])
    undone = lab.run("rollback", "--backup-id", output["backup_id"])
    assert undone["events_deleted"] == len(made)
    assert count(server, bucket) == 1
    assert lab.events() == [live]
    assert lab.run("rollback", "--backup-id", output["backup_id"])["was_done_before"]
    assert [row[-1] for row in lab.summaries(FIRST_DAY, LAST_DAY)] == [20_250_000]


def mixed_events() -> list[UsageEvent]:
    return [
        settled(),
        settled(request_id=generation_id(2), cost_usd="0.000000000001", external_user=BOB,
                usage_extra='{"cost_details":{"x":1}}', latency_ms=5, finish_reason="stop"),
        settled(request_id=generation_id(3), is_byok=True, upstream_cost_usd="0.07", cost_usd=0),
        pending(request_id=generation_id(4)),
        turn(occurred_at=NOON + timedelta(days=1), message_id="m-9", request_id="turn:c:m-9"),
        *(turn(occurred_at=NOON, request_id=f"turn:c:{at}", message_id=f"{at}")
          for at in range(40)),
    ]  # fmt: skip


def test_the_embedded_store_goes_over_event_by_event_and_the_books_stay_the_same(
    lab: Lab, server: InfluxServer, bucket: InfluxSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFLUXDB_FIRST_ENABLED", "false")
    events = mixed_events()
    lab.put(events)
    with lab.ledger() as ledger:
        ledger.target.write(store_rows([unmetered()]))
        ledger.projection.project_days(DAY, DAY + timedelta(days=1))
    before = lab.summaries(DAY, DAY + timedelta(days=1))
    assert "INFLUXDB_FIRST_ENABLED=true" in lab.run(
        "migrate", "--source", "embedded", code=3
    )["error"]  # fmt: skip
    monkeypatch.setenv("INFLUXDB_FIRST_ENABLED", "true")
    lab.run("migrate", "--source", "embedded")
    output = lab.run("migrate", "--source", "embedded")
    [copy] = lab.run("list")["backups"]
    assert copy["rollback"] == "none: a copy, with nothing to undo"
    assert count(server, bucket) == len(events)
    with lab.ledger() as ledger:
        stored = ledger.store_named("influxdb")
        assert stored is not None
        assert sorted(map(str, stored.events(EVER))) == sorted(map(str, events))
        assert len(stored.unmetered(EVER)) == 1
    assert lab.summaries(DAY, DAY + timedelta(days=1)) == before
    assert lab.run("verify", "--source", "embedded")["differences"] == []
    # A copy cannot be told from what the hosts delivered: refused, and nothing changes.
    refused = lab.run("rollback", "--backup-id", output["backup_id"], code=3)
    assert "Nothing has to be undone" in refused["error"]
    assert count(server, bucket) == len(events)


def test_a_copy_says_before_it_begins_that_it_cannot_be_rolled_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFLUXDB_FIRST_ENABLED", "false")
    lab.put([settled()])
    monkeypatch.setenv("INFLUXDB_FIRST_ENABLED", "true")
    chosen = ("--source", "embedded")
    assert lab.run("plan", *chosen)["rollback"] == COPY_STAYS
    checks = {each["check"]: each["detail"] for each in lab.run("status", *chosen)["checks"]}
    assert checks["rollback"] == COPY_STAYS

    def refuse(store: InfluxStore, rows: object) -> None:
        raise Misconfigured("it began")

    monkeypatch.setattr(InfluxStore, "write", refuse)
    begun = CliRunner().invoke(app, ["migrate", *chosen])
    assert (begun.exit_code, begun.stderr.splitlines()) == (4, [COPY_STAYS, "it began"])


def test_switching_back_and_forth_loses_and_doubles_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFLUXDB_FIRST_ENABLED", "false")
    lab.put([settled()])
    monkeypatch.setenv("INFLUXDB_FIRST_ENABLED", "true")
    lab.run("migrate", "--source", "embedded")
    lab.put([settled(request_id=generation_id(2))])
    monkeypatch.setenv("INFLUXDB_FIRST_ENABLED", "false")
    lab.put([settled(request_id=generation_id(3))])
    for flag in ("false", "true"):
        monkeypatch.setenv("INFLUXDB_FIRST_ENABLED", flag)
        with lab.ledger() as ledger:
            assert not ledger.projection.project_days(DAY, DAY).failures
        assert sum(row[-1] for row in lab.summaries(DAY, DAY)) == 3 * 20_250_000


def test_an_import_is_taken_out_of_the_store_it_went_into(
    lab: Lab, server: InfluxServer, bucket: InfluxSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    legacy_database(lab.folder / "webui.db", believable_requests())
    output = lab.run("migrate", *SPAN)
    monkeypatch.setenv("INFLUXDB_FIRST_ENABLED", "false")
    lab.run("rollback", "--backup-id", output["backup_id"])
    assert count(server, bucket) == 0
    again = lab.run("migrate", *SPAN)
    monkeypatch.setenv("INFLUXDB_URL", "")
    lab.run("rollback", "--backup-id", again["backup_id"], code=None)
    monkeypatch.setenv("INFLUXDB_URL", bucket.url)
    assert lab.events() == []


def original_line(at: int, request_id: str, cost: object, **tags: str) -> str:
    named = {"client_org_id": "acme", "model": "openai/gpt-4o", "api_key_hash": "0123abcd",
             "external_user": ALICE, "request_id": request_id} | tags  # fmt: skip
    text = ",".join(f"{key}={value}" for key, value in sorted(named.items()) if value)
    fields = f"input_tokens=7i,output_tokens=3i,total_tokens=10i,cost_usd={cost},latency_ms=40i"
    return f"usage_tracking,{text} {fields} {at * 10**6}"


def test_the_original_layout_comes_without_its_markup_and_each_request_once(
    lab: Lab, server: InfluxServer, bucket: InfluxSettings
) -> None:
    start = int(NOON.timestamp() * 1000)
    raw = [0.0001, 7.4e-7, 0.0123456789, 2.5]
    ids = [generation_id(at) for at in range(3)] + ["req-4"]
    lines = [
        original_line(start + at, request_id, repr(cost * 1.3))
        for at, (request_id, cost) in enumerate(zip(ids, raw, strict=True))
    ]
    # The original's duplicate check let some through: the same request a second later.
    lines.append(original_line(start + 1000, ids[0], repr(raw[0] * 1.3)))
    lines.append(original_line(start + 2000, "", "1.3"))
    server.write(bucket.bucket, "\n".join(lines))
    arguments = ("--source", "original-influx", "--markup", "1.3")
    output = lab.run("migrate", *arguments)
    assert output["events"] == 5
    priced = {event.request_id: str(event.cost_usd.normalize()) for event in lab.events()
              if event.cost_usd is not None}  # fmt: skip
    assert [priced[request_id] for request_id in ids[:3]] == ["0.0001", "7.4E-7", "0.0123456789"]
    assert sorted(priced.values())[-2:] == ["2.5", "7.4E-7"]
    assert lab.run("verify", *arguments)["differences"] == []
    assert sum(row[-1] for row in lab.summaries(DAY, DAY)) == 3_512_446_418_900
    lab.run("rollback", "--backup-id", output["backup_id"])
    assert lab.events() == []
    found = server.query("SELECT count(cost_usd) FROM usage_tracking", bucket.bucket)
    assert found["series"][0]["values"][0][1] == 6


def test_a_token_that_may_not_delete_is_refused_before_anything_is_written(
    lab: Lab, server: InfluxServer, bucket: InfluxSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    legacy_database(lab.folder / "webui.db", believable_requests())
    monkeypatch.setenv("INFLUXDB_TOKEN", server.token_for(bucket.bucket, "read"))
    output = lab.run("migrate", *SPAN, code=3)
    assert "could never be rolled back" in output["error"]
    assert not list((lab.folder / "backups").glob("backup_*"))
    assert count(server, bucket) == 0
