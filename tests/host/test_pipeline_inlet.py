"""What the Pipelines inlet adds to a request, for whom, and whose names it keeps."""

import copy
from pathlib import Path
from types import ModuleType
from typing import Any

from shared.core.rows import UserRow
from tests.host.bodies import ALICE_HERSELF, FOREIGN, PRESET, outlet, request, task
from tests.host.plugin import events, rows, running
from tests.support.builders import ALICE, BOB

HOST = "pipeline"


def added(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if before.get(name) != value}


async def inlet(plugin: Any, body: dict[str, Any], user: Any = ALICE_HERSELF) -> dict[str, Any]:
    """Post a body to the inlet and return what it added."""
    before = copy.deepcopy(body)
    after = added(before, await plugin.inlet(body, user))
    after.pop("metadata", None)
    return after


async def test_requests_of_chats_and_tasks_name_their_user_to_openrouter(
    plugin: Any,
) -> None:
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


async def test_a_model_whose_record_was_not_sent_gets_nothing(plugin: Any) -> None:
    assert await inlet(plugin, request(PRESET)) == {}
    assert await inlet(plugin, request(model="openai/o3")) == {}


async def test_a_preset_is_known_by_the_remembered_record_of_its_base(plugin: Any) -> None:
    await inlet(plugin, request())
    assert await inlet(plugin, request(PRESET)) == {"user": ALICE}
    assert await inlet(plugin, request(FOREIGN, model="openai/gpt-5-mini")) == {"user": ALICE}


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
