"""The plugin in the real Pipelines server: uploaded, used, changed and uploaded again."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.core.event import UsageEvent
from shared.core.rows import HostRow, Row, UnmeteredRow, row_from_json
from shared.spool.sqlite_spool import SqliteSpool
from tests.host.captures import read
from tests.host.plugin import PLUGIN
from tests.host.servers import PLUGIN_ID, PipelinesServer, pipelines_server, wait_for
from tests.support.builders import ALICE

pytestmark = pytest.mark.host


@pytest.fixture(params=["pipelines-current", "pipelines-pinned"])
def either_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PipelinesServer]:
    with pipelines_server(request.param, tmp_path) as running:
        running.upload()
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PipelinesServer]:
    with pipelines_server("pipelines-current", tmp_path) as running:
        running.upload()
        yield running


def spooled(server: PipelinesServer) -> list[Row]:
    spool = SqliteSpool(server.spool_path)
    try:
        return [row_from_json(row.kind, row.json) for row in spool.take(100_000)]
    finally:
        spool.close()


def events(server: PipelinesServer, expected: int) -> list[UsageEvent]:
    """Return the events once so many are there: a busy disk may take longer than a hook waits."""
    found: list[UsageEvent] = []

    def are_there() -> bool:
        found[:] = [row for row in spooled(server) if isinstance(row, UsageEvent)]
        return len(found) >= expected

    wait_for(are_there)
    return found


def outlet(number: int) -> dict[str, Any]:
    usage = {"input_tokens": 9, "output_tokens": number, "total_tokens": 9 + number, "cost": 2e-05}
    message = {"id": f"message-{number}", "role": "assistant", "usage": usage}
    body = {
        "id": message["id"],
        "chat_id": "chat-1",
        "model": "openai/gpt-5-mini",
        "messages": [message],
    }
    return {"body": body, "user": {"id": ALICE}}


def test_it_is_listed_after_the_upload_without_network_and_without_influxdb_client(
    either_server: PipelinesServer,
) -> None:
    assert [(found["id"], found["type"]) for found in either_server.listed()] == [
        (PLUGIN_ID, "filter")
    ]
    assert not (either_server.pipelines_dir / "failed").exists()
    (model,) = either_server.client.get("/models", headers=auth()).json()["data"]
    assert model["pipeline"] == {
        "type": "filter",
        "pipelines": ["*"],
        "priority": 0,
        "valves": True,
    }


def auth() -> dict[str, str]:
    return {"Authorization": "Bearer key-of-the-tests"}


def test_inlet_and_outlet_book_what_a_real_chat_cost(either_server: PipelinesServer) -> None:
    for call in read("a_ui_first_turn", "pipeline.inlet"):
        answer = either_server.post("filter/inlet", call)
        assert answer.status_code == 200
        assert answer.json() == call["body"] | {"user": call["user"]["id"]} | marks(answer.json())
    for call in read("a_ui_first_turn", "pipeline.outlet"):
        assert either_server.post("filter/outlet", call).json() == call["body"]
    (event,) = events(either_server, 1)
    assert (str(event.cost_usd), event.model) == ("0.000020250000", "openai/gpt-5-mini")
    tasks = [row.task for row in spooled(either_server) if isinstance(row, UnmeteredRow)]
    assert sorted(tasks) == ["follow_up_generation", "tags_generation", "title_generation"]


def marks(body: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata as answered: a task's carries its name for a second copy of the file."""
    return {"metadata": body["metadata"]} if "task" in body["metadata"] else {}


def test_a_valve_update_counts_from_then_on_and_a_wrong_value_takes_its_default(
    server: PipelinesServer,
) -> None:
    server.post("filter/outlet", outlet(1))
    update = {"client_org": "acme", "spool_max_mb": "plenty", "priority": "7"}
    answer = server.post("valves/update", update)
    assert answer.status_code == 200
    assert (answer.json()["priority"], answer.json()["spool_max_mb"]) == (7, None)
    server.post("filter/outlet", outlet(2))
    assert [event.client_org_id for event in events(server, 2)] == ["unassigned", "acme"]
    server.stop()
    (host,) = [row for row in spooled(server) if isinstance(row, HostRow)]
    assert "spool_max_mb" in host.message
    assert "(got 'plenty')" in host.message
    assert "wrong_setting: spool_max_mb" in server.log()


def test_a_second_upload_runs_the_new_code_loses_nothing_and_leaves_no_thread(
    either_server: PipelinesServer,
) -> None:
    either_server.post("filter/outlet", outlet(1))
    before = either_server.threads()
    newer = re.sub(r'^VERSION = ".*"$', 'VERSION = "9.9.9"', PLUGIN.read_text(), flags=re.M)
    for number in (2, 3, 4):
        either_server.upload(newer)
        either_server.post("filter/outlet", outlet(number))
    assert either_server.threads() == before
    assert [event.output_tokens for event in events(either_server, 4)] == [1, 2, 3, 4]
    versions = {row.version for row in spooled(either_server) if isinstance(row, HostRow)}
    assert "9.9.9" in versions


def test_saved_valves_with_wrong_values_do_not_keep_it_from_loading(
    server: PipelinesServer,
) -> None:
    saved = server.pipelines_dir / PLUGIN_ID / "valves.json"
    saved.write_text('{"pipelines": 7, "priority": null, "spool_max_mb": [], "nonsense": {}}')
    server.upload()
    assert [found["id"] for found in server.listed()] == [PLUGIN_ID]
    (model,) = server.client.get("/models", headers=auth()).json()["data"]
    assert model["pipeline"]["pipelines"] == ["*"]


def test_a_restarted_server_goes_on_with_the_same_spool(server: PipelinesServer) -> None:
    server.post("filter/outlet", outlet(1))
    server.stop()
    server.start()
    server.post("filter/outlet", outlet(1))
    server.post("filter/outlet", outlet(2))
    assert [event.output_tokens for event in events(server, 2)] == [1, 2]


def test_whatever_is_posted_to_the_port_is_answered_as_it_came(server: PipelinesServer) -> None:
    nonsense: list[dict[str, Any]] = [
        {},
        {"model": None, "messages": "none", "metadata": []},
        {"id": 7, "messages": [None], "chat_id": {"a": 1}},
        {"metadata": {"task": "x" * 10_000, "model": {"id": "y" * 10_000}}},
    ]
    for body in nonsense:
        for hook in ("inlet", "outlet"):
            answer = server.post(f"filter/{hook}", {"body": body, "user": {"id": "\x00"}})
            assert (answer.status_code, answer.json()) == (200, body)
    server.post("filter/outlet", outlet(1))
    assert len(events(server, 1)) == 1
