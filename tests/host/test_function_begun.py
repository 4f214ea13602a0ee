"""Answers that begin inside Open WebUI and are never shown: unmetered, unless they come late."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from shared.projection.resolution import still_unmetered
from tests.host.bodies import (
    ALICE_HERSELF,
    FOREIGN,
    PRESET,
    RECORD,
    chunk,
    continued,
    last_chunk,
    metadata,
    outlet,
    request,
)
from tests.host.plugin import (
    events,
    expire,
    load_as_function,
    load_as_pipeline,
    put_overdue,
    running,
    unmetered,
)
from tests.support.builders import ALICE

HOST = "function"

BODY = {"model": "openai/gpt-5-mini", "messages": [], "stream": True}


async def begin(plugin: Any, answer: dict[str, Any], body: dict[str, Any] = BODY) -> None:
    assert await plugin.inlet(body, __metadata__=answer) is body


def expire_answers(plugin: Any) -> None:
    """Let the wait for every answer pass."""
    put_overdue(plugin, hours=1, seconds=1)


async def test_a_chat_that_is_never_shown_is_unmetered(plugin: Any) -> None:
    await begin(plugin, metadata(model=RECORD))
    expire_answers(plugin)
    (row,) = unmetered(plugin)
    assert (row.request_id, row.external_user) == ("turn:chat-1:message-1", ALICE)
    assert (row.model, row.task) == ("openai/gpt-5-mini", "chat")


async def test_a_call_of_the_api_that_is_never_shown_is_unmetered_by_a_name_of_its_own(
    plugin: Any,
) -> None:
    """As one that is not streamed and answers only with tool calls: it has no outlet."""
    for _ in range(2):
        await begin(plugin, metadata(model=RECORD, chat_id="", message_id=None))
    expire_answers(plugin)
    assert len({row.request_id for row in unmetered(plugin)}) == 2


async def test_a_preset_beside_another_model_is_unmetered_too(
    plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open WebUI leaves the record of the first model in the metadata of all."""
    state = SimpleNamespace(OPENAI_MODELS={RECORD["id"]: RECORD})
    main = SimpleNamespace(app=SimpleNamespace(state=state))
    monkeypatch.setitem(sys.modules, "open_webui.main", main)
    body = BODY | {"model": PRESET["id"]}
    await plugin.inlet(body, __metadata__=metadata(model=FOREIGN), __model__=PRESET)
    expire_answers(plugin)
    (row,) = unmetered(plugin)
    assert row.model == "openai/gpt-5-mini"


async def test_one_of_another_connection_is_not(plugin: Any) -> None:
    await begin(plugin, metadata(model=FOREIGN), BODY | {"model": "local-llama"})
    expire_answers(plugin)
    assert unmetered(plugin) == []


@pytest.mark.parametrize("ids", [{}, {"chat_id": "", "message_id": None}], ids=["chat", "API"])
async def test_the_first_chunk_is_enough_to_wait_no_longer(
    plugin: Any, ids: dict[str, Any]
) -> None:
    answer = metadata(model=RECORD, **ids)
    await begin(plugin, answer)
    await plugin.stream(chunk(content="word"), __metadata__=answer)
    expire_answers(plugin)
    expire(plugin)
    assert unmetered(plugin) == []
    assert [event.cost_source for event in events(plugin)] == ["none"]


async def test_an_outlet_is_enough_too(plugin: Any) -> None:
    answer = metadata(model=RECORD, chat_id="", message_id=None)
    await begin(plugin, answer)
    await plugin.outlet(outlet(name="msg_1") | {"chat_id": ""}, __metadata__=answer)
    expire_answers(plugin)
    assert unmetered(plugin) == []
    assert [event.request_id for event in events(plugin)] == ["turn::msg_1"]


async def test_an_answer_that_was_not_streamed_and_has_no_usage_is_unmetered(plugin: Any) -> None:
    answer = metadata(model=RECORD)
    await begin(plugin, answer)
    body = outlet()
    del body["messages"][-1]["usage"]
    await plugin.outlet(body, __metadata__=answer)
    expire_answers(plugin)
    assert [row.request_id for row in unmetered(plugin)] == ["turn:chat-1:message-1"]


async def test_one_that_comes_after_all_is_booked_and_no_longer_unmetered(plugin: Any) -> None:
    answer = metadata(model=RECORD)
    await begin(plugin, answer)
    expire_answers(plugin)
    await plugin.outlet(outlet(), __metadata__=answer)
    assert len(events(plugin)) == 1
    assert still_unmetered(unmetered(plugin), events(plugin)) == []


async def test_both_hosts_name_a_silent_answer_and_each_part_of_it_alike(
    module: ModuleType, tmp_path: Path
) -> None:
    """Open WebUI hands to the Function what the Pipelines inlet returned."""
    valves = {"spool_dir": str(tmp_path), "user_directory": False}
    with (
        running(load_as_pipeline(), "Pipeline", **valves) as pipeline,
        running(module, "Filter", **valves) as function,
    ):
        for body in (request(), continued()):
            answer = {"user_id": ALICE, **body["metadata"]}
            await begin(function, answer, await pipeline.inlet(body, ALICE_HERSELF))
        for plugin in (pipeline, function):
            expire_answers(plugin)
        rows = [*unmetered(pipeline), *unmetered(function)]
    assert len(rows) == 4
    assert len(still_unmetered(rows, [])) == 2


async def test_the_same_file_installed_twice_lists_it_once(
    module: ModuleType, tmp_path: Path
) -> None:
    with (
        running(module, "Filter", spool_dir=str(tmp_path)) as one,
        running(load_as_function(), "Filter", spool_dir=str(tmp_path)) as other,
    ):
        silent = metadata(model=RECORD, chat_id="", message_id=None)
        shown = metadata(model=RECORD, chat_id="", message_id=None)
        for answer in (silent, shown):
            for plugin in (one, other):
                await begin(plugin, answer)
        for plugin in (one, other):
            await plugin.stream(last_chunk(), __metadata__=shown)
        for plugin in (one, other):
            expire_answers(plugin)
        assert len(unmetered(one)) == 1


async def test_no_body_makes_the_inlet_raise(plugin: Any) -> None:
    for body, answer in (
        ([], {}),
        ({}, None),
        ({"model": [1]}, {"user_id": 7}),
        ({}, {"model": 3}),
    ):
        assert await plugin.inlet(body, __metadata__=answer) is body
    assert plugin.status().counters == {}
