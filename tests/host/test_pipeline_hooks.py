"""What the Pipelines hooks add, remember and book, where captured bodies do not reach."""

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shared.domain.rows import UserRow
from tests.builders import ALICE, BOB
from tests.builders import generation_id as id_at
from tests.host.plugin import events, load_as_pipeline, rows, running, unmetered

RECORD: dict[str, Any] = {
    "id": "openai/gpt-5-mini",
    "canonical_slug": "openai/gpt-5-mini",
    "pricing": {"prompt": "0.00000025", "completion": "0.000002"},
    "top_provider": {},
}
PRESET = {"id": "law", "info": {"base_model_id": "openai/gpt-5-mini"}}
FOREIGN = {"id": "local-llama", "owned_by": "openai"}
ALICE_HERSELF = {"id": ALICE, "name": "Alice", "email": "alice@example.org", "role": "user"}


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_as_pipeline()


@pytest.fixture
def plugin(module: ModuleType, tmp_path: Path) -> Iterator[Any]:
    with running(module, "Pipeline", spool_dir=str(tmp_path), user_directory=False) as found:
        yield found


def request(record: dict[str, Any] = RECORD, **fields: Any) -> dict[str, Any]:
    metadata = {"chat_id": "chat-1", "message_id": "message-1", "model": record}
    body = {"model": record["id"], "messages": [], "stream": True, "metadata": metadata}
    return copy.deepcopy(body | fields)


def task(name: str = "title_generation", **fields: Any) -> dict[str, Any]:
    return request(metadata={"chat_id": "chat-1", "task": name, "model": RECORD}) | fields


def outlet(model: str = "openai/gpt-5-mini", **usage: Any) -> dict[str, Any]:
    whole = {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18, "cost": 2e-05} | usage
    message = {"id": "message-1", "role": "assistant", "usage": whole}
    return {"id": "message-1", "chat_id": "chat-1", "model": model, "messages": [message]}


def added(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if before.get(name) != value}


async def inlet(plugin: Any, body: dict[str, Any], user: Any = ALICE_HERSELF) -> dict[str, Any]:
    """Post a body to the inlet and return what it added."""
    before = copy.deepcopy(body)
    after = added(before, await plugin.inlet(body, user))
    after.pop("metadata", None)
    return after


async def test_openrouter_is_told_who_asked_for_a_chat_and_for_a_task(plugin: Any) -> None:
    assert await inlet(plugin, request()) == {"user": ALICE}
    assert await inlet(plugin, task()) == {"user": ALICE}


async def test_what_the_caller_sent_is_never_overwritten(
    module: ModuleType, tmp_path: Path
) -> None:
    valves = {"spool_dir": str(tmp_path), "add_session_id": True, "add_trace": True}
    with running(module, "Pipeline", **valves) as plugin:
        assert await inlet(plugin, request(user="mine", session_id=None, trace={})) == {}


async def test_session_and_trace_are_added_by_valve_only(
    module: ModuleType, tmp_path: Path
) -> None:
    valves = {"add_user": False, "add_session_id": True, "add_trace": True}
    with running(module, "Pipeline", spool_dir=str(tmp_path), **valves) as plugin:
        trace = {"owui_chat_id": "chat-1", "owui_message_id": "message-1", "owui_task": "chat"}
        assert await inlet(plugin, request()) == {"session_id": "chat-1", "trace": trace}
        trace = {"owui_chat_id": "chat-1", "owui_task": "tags_generation"}
        assert await inlet(plugin, task("tags_generation")) == {
            "session_id": "chat-1",
            "trace": trace,
        }


async def test_nothing_is_added_for_another_connection(plugin: Any) -> None:
    assert await inlet(plugin, request(FOREIGN)) == {}
    assert await inlet(plugin, request(FOREIGN | {"pricing": {"prompt": "1"}})) == {}


async def test_a_model_whose_record_nobody_sent_gets_nothing(plugin: Any) -> None:
    assert await inlet(plugin, request(PRESET)) == {}
    assert await inlet(plugin, request(model="openai/o3")) == {}


async def test_a_preset_is_known_by_the_remembered_record_of_its_base(plugin: Any) -> None:
    await inlet(plugin, request())
    assert await inlet(plugin, request(PRESET)) == {"user": ALICE}
    assert await inlet(plugin, request(FOREIGN, model="openai/gpt-5-mini")) == {"user": ALICE}


async def test_a_task_is_unmetered_and_one_of_another_connection_is_not(plugin: Any) -> None:
    await inlet(plugin, task("tags_generation"))
    await inlet(plugin, task(model="local-llama", metadata={"task": "x", "model": FOREIGN}))
    (row,) = unmetered(plugin)
    assert (row.task, row.model, row.external_user) == (
        "tags_generation",
        "openai/gpt-5-mini",
        ALICE,
    )
    assert row.request_id.startswith("task:")


async def test_the_same_file_installed_twice_lists_a_task_once(
    module: ModuleType, tmp_path: Path
) -> None:
    spool_dir = str(tmp_path)
    with (
        running(module, "Pipeline", spool_dir=spool_dir) as one,
        running(load_as_pipeline(), "Pipeline", spool_dir=spool_dir) as other,
    ):
        await other.inlet(await one.inlet(task(), ALICE_HERSELF), ALICE_HERSELF)
        await other.inlet(await one.inlet(request(), ALICE_HERSELF), ALICE_HERSELF)
        body = await one.outlet(outlet(), ALICE_HERSELF)
        await other.outlet(body, ALICE_HERSELF)
        assert len(unmetered(one)) == 1
        assert len(events(one)) == 1


async def test_an_answer_that_does_not_come_is_unmetered_and_may_still_come(
    module: ModuleType, tmp_path: Path
) -> None:
    with running(module, "Pipeline", spool_dir=str(tmp_path), answer_wait_seconds=60) as plugin:
        await inlet(plugin, request(PRESET))
        recording = plugin._recorder.follow(plugin.valves)
        later = datetime.now(UTC) + timedelta(seconds=61)
        silent = recording._overdue(recording.settings, later)
        assert [row.request_id for row in silent] == ["turn:chat-1:message-1"]
        assert recording._overdue(recording.settings, later) == []
        await plugin.outlet(outlet("law"), ALICE_HERSELF)
        assert [event.model for event in events(plugin)] == ["openai/gpt-5-mini"]


async def test_the_thread_lists_a_silent_answer_by_itself(
    module: ModuleType, tmp_path: Path
) -> None:
    valves = {"answer_wait_seconds": 1, "user_directory": False}
    with running(module, "Pipeline", spool_dir=str(tmp_path), **valves) as plugin:
        await inlet(plugin, request())
        recording = plugin._recorder.follow(plugin.valves)
        for _ in range(1000):
            if recording.spool.counters().get("queued", 0) >= 2:
                break
            recording.join(0.02)
        assert [row.task for row in unmetered(plugin)] == ["chat"]


async def test_an_answer_stopped_and_then_continued_leaves_an_unmetered_row(plugin: Any) -> None:
    await inlet(plugin, request())
    again = request()
    again["metadata"]["assistant_message_id"] = "message-1"
    await inlet(plugin, again)
    await plugin.outlet(outlet(prompt_tokens=20, completion_tokens=5), ALICE_HERSELF)
    assert [row.request_id for row in unmetered(plugin)] == ["turn:chat-1:message-1"]
    (event,) = events(plugin)
    assert event.estimated_cost_usd == Decimal("0.000015")


async def test_an_answer_that_a_function_booked_is_left_to_it(plugin: Any) -> None:
    await inlet(plugin, request())
    await plugin.outlet(outlet(usage_ledger=[id_at()]), ALICE_HERSELF)
    recording = plugin._recorder.follow(plugin.valves)
    assert recording._overdue(recording.settings, datetime.now(UTC) + timedelta(hours=2)) == []
    assert events(plugin) == []
    assert unmetered(plugin) == []


async def test_a_continued_answer_is_estimated_when_its_ids_are_those_of_an_earlier_part(
    plugin: Any,
) -> None:
    long_ago = id_at(seconds=1_795_000_000)
    continued = request()
    continued["metadata"]["assistant_message_id"] = "message-1"
    await inlet(plugin, continued)
    body = outlet(usage_ledger=[long_ago], prompt_tokens=20, completion_tokens=5)
    for _ in range(2):
        await plugin.outlet(copy.deepcopy(body), ALICE_HERSELF)
    assert [event.cost_source for event in events(plugin)] == ["estimate"]


async def test_a_continued_answer_with_ids_of_its_own_is_left_to_the_function_however_late(
    plugin: Any,
) -> None:
    first, second = id_at(1, 1_795_000_000), id_at(2, 1_795_000_000)
    await inlet(plugin, request())
    await plugin.outlet(outlet(usage_ledger=[first]), ALICE_HERSELF)
    continued = request()
    continued["metadata"]["assistant_message_id"] = "message-1"
    await inlet(plugin, continued)
    for _ in range(2):
        await plugin.outlet(outlet(usage_ledger=[second]), ALICE_HERSELF)
    assert events(plugin) == []


async def test_an_api_answer_is_booked_without_its_inlet(plugin: Any) -> None:
    body = outlet() | {"chat_id": "", "id": "msg_1"}
    body["messages"][0]["id"] = "msg_1"
    await plugin.outlet(body, ALICE_HERSELF)
    assert [event.request_id for event in events(plugin)] == ["turn::msg_1"]


async def test_a_preset_whose_inlet_is_not_known_is_unresolved_but_booked(plugin: Any) -> None:
    await plugin.outlet(outlet("law"), ALICE_HERSELF)
    (event,) = events(plugin)
    assert (event.model, event.cost_usd) == ("unresolved:law", Decimal("0.00002"))


async def test_an_outlet_posted_again_is_one_event(plugin: Any) -> None:
    for _ in range(3):
        await plugin.outlet(outlet(), ALICE_HERSELF)
    assert len(events(plugin)) == 1


async def test_an_answer_without_user_is_refused_and_counted(plugin: Any) -> None:
    await plugin.outlet(outlet(), None)
    assert events(plugin) == []
    assert plugin._recorder.counters.totals() == {"refused_external_user": 1}


async def test_an_openrouter_answer_without_cost_is_pending(plugin: Any) -> None:
    await inlet(plugin, request())
    body = outlet()
    del body["messages"][0]["usage"]["cost"]
    await plugin.outlet(body, ALICE_HERSELF)
    (event,) = events(plugin)
    assert (event.cost_usd, event.cost_source, event.total_tokens) == (None, "none", 18)


async def test_names_go_to_the_directory_once_and_again_when_they_change(
    module: ModuleType, tmp_path: Path
) -> None:
    bob = {"id": BOB, "name": "Bob", "email": "bob@example.org"}
    with running(module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        for user in (ALICE_HERSELF, bob, ALICE_HERSELF, bob | {"name": "Robert"}):
            await inlet(plugin, request(), user)
        named = [row for row in rows(plugin) if isinstance(row, UserRow)]
        assert [(row.user_id, row.name) for row in named] == [
            (ALICE, "Alice"),
            (BOB, "Bob"),
            (BOB, "Robert"),
        ]
        await plugin.outlet(outlet(), ALICE_HERSELF)
        (event,) = events(plugin)
        assert "alice@example.org" not in event.to_json()


async def test_no_name_is_kept_when_the_valve_is_off(plugin: Any) -> None:
    await inlet(plugin, request())
    assert [row for row in rows(plugin) if isinstance(row, UserRow)] == []


async def test_an_answer_under_way_when_the_server_reloads_is_read_as_its_inlet_said(
    module: ModuleType, tmp_path: Path
) -> None:
    continued = request(PRESET)
    continued["metadata"]["assistant_message_id"] = "message-1"
    silent = request()
    silent["metadata"]["message_id"] = "message-2"
    with running(module, "Pipeline", spool_dir=str(tmp_path)) as first:
        for body in (request(), continued, silent):
            await inlet(first, body)
        await first.on_shutdown()
    with running(load_as_pipeline(), "Pipeline", spool_dir=str(tmp_path)) as second:
        await second.on_startup()
        await second.outlet(outlet("law", prompt_tokens=20, completion_tokens=5), ALICE_HERSELF)
        recording = second._recorder.follow(second.valves)
        later = datetime.now(UTC) + timedelta(hours=2)
        waiting = recording._overdue(recording.settings, later)
        (event,) = events(second)
    assert (event.cost_source, event.model) == ("estimate", "openai/gpt-5-mini")
    assert [row.request_id for row in waiting] == ["turn:chat-1:message-2"]
    assert list(tmp_path.glob("*inlets*")) == []


async def test_a_damaged_legacy_does_not_keep_the_server_from_starting(
    module: ModuleType, tmp_path: Path
) -> None:
    with running(module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        plugin._legacy_path().write_text('{"inlets": [7]}')
        await plugin.on_startup()
        assert plugin._recorder.counters.totals() == {"failed_takeover": 1}
        await plugin.outlet(outlet(), ALICE_HERSELF)
        assert len(events(plugin)) == 1
