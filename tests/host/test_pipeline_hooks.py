"""What the Pipelines hooks add, remember and book, where captured bodies do not reach."""

import asyncio
import copy
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.host.bodies import (
    ALICE_HERSELF,
    FOREIGN,
    PRESET,
    continued,
    generation_id,
    outlet,
    request,
    task,
)
from tests.host.plugin import events, load_as_pipeline, overdue, running, unmetered
from tests.support.builders import ALICE
from tests.support.builders import generation_id as id_at
from tests.support.waiting import wait_for

HOST = "pipeline"


async def inlet(plugin: Any, body: dict[str, Any], user: Any = ALICE_HERSELF) -> None:
    assert await plugin.inlet(body, user) is body


async def test_a_task_is_unmetered_and_one_of_another_connection_is_not(plugin: Any) -> None:
    await inlet(plugin, task("tags_generation"))
    await inlet(plugin, task(record=FOREIGN))
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
        silent = overdue(plugin, seconds=61)
        assert [row.request_id for row in silent] == ["turn:chat-1:message-1"]
        assert overdue(plugin, seconds=61) == []
        await plugin.outlet(outlet("law"), ALICE_HERSELF)
        assert [event.model for event in events(plugin)] == ["openai/gpt-5-mini"]


async def test_the_thread_lists_a_silent_answer_by_itself(
    module: ModuleType, tmp_path: Path
) -> None:
    valves = {"answer_wait_seconds": 1, "user_directory": False}
    with running(module, "Pipeline", spool_dir=str(tmp_path), **valves) as plugin:
        await inlet(plugin, request())
        await asyncio.to_thread(
            wait_for, lambda: plugin.status().spool_counters.get("queued", 0) >= 2
        )
        assert [row.task for row in unmetered(plugin)] == ["chat"]


async def test_an_answer_that_a_function_booked_is_left_to_it(plugin: Any) -> None:
    await inlet(plugin, request())
    await plugin.outlet(outlet(usage_ledger=[id_at()]), ALICE_HERSELF)
    assert overdue(plugin, hours=2) == []
    assert events(plugin) == []
    assert unmetered(plugin) == []


async def test_a_continued_answer_is_estimated_when_its_ids_are_those_of_an_earlier_part(
    plugin: Any,
) -> None:
    await inlet(plugin, continued())
    body = outlet(usage_ledger=[generation_id()], prompt_tokens=20, completion_tokens=5)
    for _ in range(2):
        await plugin.outlet(copy.deepcopy(body), ALICE_HERSELF)
    assert [event.cost_source for event in events(plugin)] == ["estimate"]


async def test_a_continued_answer_with_ids_of_its_own_is_left_to_the_function_however_late(
    plugin: Any,
) -> None:
    first, second = generation_id(1), generation_id(2)
    await inlet(plugin, request())
    await plugin.outlet(outlet(usage_ledger=[first]), ALICE_HERSELF)
    await inlet(plugin, continued())
    for _ in range(2):
        await plugin.outlet(outlet(usage_ledger=[second]), ALICE_HERSELF)
    assert events(plugin) == []


async def test_an_api_answer_is_booked_without_its_inlet(plugin: Any) -> None:
    await plugin.outlet(outlet(name="msg_1") | {"chat_id": ""}, ALICE_HERSELF)
    assert [event.request_id for event in events(plugin)] == ["turn::msg_1"]


async def test_a_preset_whose_inlet_is_not_known_is_unresolved_but_booked(plugin: Any) -> None:
    await plugin.outlet(outlet("law"), ALICE_HERSELF)
    (event,) = events(plugin)
    assert (event.model, event.cost_usd) == ("unresolved:law", Decimal("0.000009"))


async def test_an_outlet_posted_again_is_one_event(plugin: Any) -> None:
    for _ in range(3):
        await plugin.outlet(outlet(), ALICE_HERSELF)
    assert len(events(plugin)) == 1


async def test_an_answer_without_user_is_refused_and_counted(plugin: Any) -> None:
    await plugin.outlet(outlet(), None)
    assert events(plugin) == []
    assert plugin.status().counters == {"refused_external_user": 1}


async def test_an_openrouter_answer_without_cost_is_pending(plugin: Any) -> None:
    await inlet(plugin, request())
    body = outlet()
    del body["messages"][0]["usage"]["cost"]
    await plugin.outlet(body, ALICE_HERSELF)
    (event,) = events(plugin)
    assert (event.cost_usd, event.cost_source, event.total_tokens) == (None, "none", 18)


async def test_an_answer_under_way_when_the_server_reloads_is_read_as_its_inlet_said(
    module: ModuleType, tmp_path: Path
) -> None:
    silent = request(metadata={"message_id": "message-2"})
    with running(module, "Pipeline", spool_dir=str(tmp_path)) as first:
        for body in (request(), continued(PRESET), silent):
            await inlet(first, body)
        await first.on_shutdown()
    with running(load_as_pipeline(), "Pipeline", spool_dir=str(tmp_path)) as second:
        await second.on_startup()
        await second.outlet(outlet("law", prompt_tokens=20, completion_tokens=5), ALICE_HERSELF)
        waiting = overdue(second, hours=2)
        (event,) = events(second)
    assert (event.cost_source, event.model) == ("estimate", "openai/gpt-5-mini")
    assert [row.request_id for row in waiting] == ["turn:chat-1:message-2"]
    assert list(tmp_path.glob("*inlets*")) == []


async def test_a_damaged_state_file_does_not_keep_the_server_from_starting(
    module: ModuleType, tmp_path: Path
) -> None:
    with running(module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        (tmp_path / "openrouter_usage_filter.inlets.json").write_text('{"inlets": [7]}')
        await plugin.on_startup()
        assert plugin.status().counters == {"failed_takeover": 1}
        await plugin.outlet(outlet(), ALICE_HERSELF)
        assert len(events(plugin)) == 1
