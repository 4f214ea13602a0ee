"""What the outlet of the Function books and shows: answers that no stream hook saw."""

import asyncio
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from shared.core.clock import SYSTEM_CLOCK
from shared.core.rows import UserRow
from shared.core.time import to_ms
from shared.projection.resolution import still_unmetered
from tests.host.bodies import (
    ALICE_HERSELF,
    RECORD,
    chunk,
    generation_id,
    last_chunk,
    metadata,
    outlet,
    usage,
)
from tests.host.plugin import events, expire, rows, running
from tests.support.builders import ALICE, unmetered

HOST = "function"


def costs(plugin: Any) -> dict[str, Decimal | None]:
    return {event.request_id: event.cost_usd for event in events(plugin)}


def foreign_outlet() -> dict[str, Any]:
    """Return the outlet of an answer whose usage tells no cost."""
    body = outlet()
    del body["messages"][-1]["usage"]["cost"]
    return body


async def test_a_streamed_answer_is_not_booked_again_by_its_outlet(plugin: Any) -> None:
    answer = metadata()
    await plugin.stream(last_chunk(), __metadata__=answer)
    await plugin.outlet(outlet(), __metadata__=answer)
    assert list(costs(plugin)) == [generation_id()]


async def test_an_answer_that_was_not_streamed_is_booked_by_its_outlet(plugin: Any) -> None:
    await plugin.outlet(outlet(), __metadata__=metadata())
    assert costs(plugin) == {"turn:chat-1:message-1": Decimal("0.000009")}


async def test_a_replayed_completion_books_nothing(plugin: Any) -> None:
    request = SimpleNamespace(url=SimpleNamespace(path="/api/chat/completed"))
    await plugin.outlet(outlet(), __metadata__=metadata(), __request__=request)
    assert events(plugin) == []
    assert plugin.status().counters == {"ignored_replay": 1}


async def test_an_answer_of_another_connection_is_not_booked(plugin: Any) -> None:
    await plugin.outlet(foreign_outlet(), __metadata__=metadata())
    foreign = foreign_outlet()["messages"][-1]["usage"]
    await plugin.stream(
        {"id": "chatcmpl-1", "choices": [], "usage": foreign}, __metadata__=metadata()
    )
    expire(plugin)
    assert events(plugin) == []


async def test_a_connection_named_by_the_valve_is_pending_when_it_shows_no_cost(
    module: ModuleType, tmp_path: Path
) -> None:
    record = {"id": "openai/gpt-5-mini", "tags": [{"name": "proxy"}]}
    valves = {"spool_dir": str(tmp_path), "extra_connections": ["proxy"]}
    with running(module, "Filter", **valves) as plugin:
        await plugin.outlet(foreign_outlet(), __metadata__=metadata(model=record))
        assert costs(plugin) == {"turn:chat-1:message-1": None}


async def test_a_continued_answer_that_was_not_streamed_is_estimated(plugin: Any) -> None:
    answer = metadata(assistant_message_id="message-1", model=RECORD)
    await plugin.outlet(outlet(), __metadata__=answer)
    (event,) = events(plugin)
    assert (event.request_id, event.cost_source) == ("turn:chat-1:message-1:18", "estimate")
    assert event.estimated_cost_usd == Decimal("0.00002025")


async def test_continued_parts_that_come_to_the_same_total_are_each_estimated(plugin: Any) -> None:
    for part in range(2):
        answer = metadata(assistant_message_id="message-1", model=RECORD)
        left = {"usage_ledger_part": to_ms(SYSTEM_CLOCK.now()) - 9 + part}
        await plugin.inlet({"metadata": left}, __metadata__=answer)
        await plugin.outlet(outlet(), __metadata__=answer)
    assert [event.cost_source for event in events(plugin)] == ["estimate"] * 2
    assert len({event.request_id for event in events(plugin)}) == 2


async def test_the_name_of_a_user_goes_to_the_directory(plugin: Any) -> None:
    for _ in range(2):
        await plugin.outlet(outlet(), __metadata__=metadata(), __user__=dict(ALICE_HERSELF))
    named = [row for row in rows(plugin) if isinstance(row, UserRow)]
    assert [(row.user_id, row.name, row.email) for row in named] == [
        (ALICE, "Alice", "alice@example.org")
    ]


async def test_an_answer_of_the_api_without_usage_is_pending_by_the_name_of_its_outlet(
    plugin: Any,
) -> None:
    """Pipelines lists the same answer as unmetered: the name ties the two together."""
    answer = metadata(chat_id="", message_id=None)
    await plugin.stream(chunk(content="word"), __metadata__=answer)
    body = outlet(name="msg_1") | {"chat_id": ""}
    del body["messages"][-1]["usage"]
    await plugin.outlet(body, __metadata__=answer)
    expire(plugin)
    (event,) = events(plugin)
    assert (event.request_id, event.cost_source) == (generation_id(), "none")
    assert (event.chat_id, event.message_id) == (None, "msg_1")
    row = unmetered(request_id="turn::msg_1", chat_id="", message_id="msg_1", task="chat")
    assert still_unmetered([row], [event]) == []


async def test_an_answer_of_the_api_with_usage_is_no_longer_open(plugin: Any) -> None:
    answer = metadata(chat_id="", message_id=None)
    await plugin.stream(chunk(content="word"), __metadata__=answer)
    await plugin.stream(last_chunk(), __metadata__=answer)
    await plugin.outlet(outlet(name="msg_1") | {"chat_id": ""}, __metadata__=answer)
    expire(plugin)
    assert list(costs(plugin).values()) == [Decimal("0.000009")]
    assert len(events(plugin)) == 1


class Page:
    """The page of a user: what was shown on it."""

    def __init__(self, module: ModuleType, **valves: Any) -> None:
        self.user = {"id": ALICE, "valves": module.Filter.UserValves(**valves)}
        self.shown: list[dict[str, Any]] = []

    async def emit(self, event: dict[str, Any]) -> None:
        self.shown.append(event)

    async def has_shown(self, lines: int) -> bool:
        """Wait for lines, which the answer does not; tell whether so many were shown."""
        for _ in range(100):
            await asyncio.sleep(0)
        return len(self.shown) == lines


async def test_a_user_who_wants_it_sees_what_an_answer_cost(
    module: ModuleType, plugin: Any
) -> None:
    page = Page(module, show_cost=True)
    answer = metadata()
    await plugin.stream(last_chunk(1, 5), __metadata__=answer)
    await plugin.stream(last_chunk(2, 6), __metadata__=answer)
    await plugin.outlet(
        outlet(), __metadata__=answer, __user__=page.user, __event_emitter__=page.emit
    )
    assert await page.has_shown(1)
    description = "0.000011 USD, 29 tokens"
    assert page.shown == [{"type": "status", "data": {"description": description, "done": True}}]


async def test_a_cost_that_is_not_known_is_not_shown_as_nothing(
    module: ModuleType, plugin: Any
) -> None:
    page = Page(module, show_cost="yes")
    answer = metadata()
    await plugin.stream(chunk(1, choices=[], usage=usage(cost=None)), __metadata__=answer)
    everything = {"__metadata__": answer, "__user__": page.user, "__event_emitter__": page.emit}
    await plugin.outlet(outlet(), **everything)
    await plugin.stream(last_chunk(2, 6), __metadata__=answer)
    await plugin.outlet(outlet(), **everything)
    assert await page.has_shown(2)
    assert [event["data"]["description"] for event in page.shown] == [
        "cost not known yet, 18 tokens",
        "at least 0.000006 USD, 33 tokens",
    ]


@pytest.mark.parametrize("valves", [{}, {"show_cost": False}, {"show_cost": "perhaps"}])
async def test_no_other_user_sees_a_cost(
    module: ModuleType, plugin: Any, valves: dict[str, Any]
) -> None:
    page = Page(module, **valves)
    everything = {"__user__": page.user, "__event_emitter__": page.emit}
    await plugin.outlet(outlet(), __metadata__=metadata(), **everything)
    assert await page.has_shown(0)
    assert len(events(plugin)) == 1


async def test_a_page_that_is_gone_costs_the_answer_nothing(
    module: ModuleType, plugin: Any
) -> None:
    page = Page(module, show_cost=True)

    async def gone(_event: dict[str, Any]) -> None:
        raise ConnectionError("the page is gone")

    await plugin.outlet(
        outlet(), __metadata__=metadata(), __user__=page.user, __event_emitter__=gone
    )
    assert await page.has_shown(0)
    assert len(events(plugin)) == 1
