"""The Pipelines hooks on captured bodies: answers as billed, background tasks as unmetered."""

from collections import Counter
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shared.core.event import UsageEvent
from shared.core.rows import UnmeteredRow
from shared.projection.resolution import resolve
from tests.host.captures import (
    CONVERSATION,
    SCENARIOS,
    TASKS,
    Answers,
    billed,
    ledger,
    read,
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

STORES = [(name,) for name in SCENARIOS if name not in CONVERSATION] + [CONVERSATION]
# The outlet never comes: stopped, hung up, refused, or an answer of tool calls only.
NO_OUTLET = {
    "e_stop_in_tool_loop",
    "e_ui_stop",
    "h_api_hang_up",
    "i_api_tools_nonstream",
    "k_saved_402",
}
# The outlet comes without usage: it has nothing to price.
NO_USAGE = {"k_saved_midstream", "r_usage_never"}
CONTINUED = {"d_ui_continue", "d2_ui_continue_again"}


@pytest.fixture(scope="module")
def plugin_module() -> ModuleType:
    return load_as_pipeline()


async def replay(plugin: Any, scenario: str) -> None:
    """Replay inlets, then outlets; a real host posts them in this order."""
    for call in read(scenario, "pipeline.inlet"):
        await plugin.inlet(call["body"], call["user"])
    for call in read(scenario, "pipeline.outlet"):
        await plugin.outlet(call["body"], call["user"])


def expire_answers(plugin: Any) -> None:
    """Let the wait for every outlet pass."""
    put_overdue(plugin, hours=2)


def money(event: UsageEvent) -> Decimal:
    amount = event.cost_usd if event.cost_usd is not None else event.estimated_cost_usd
    assert amount is not None
    return amount


@pytest.mark.parametrize("scenarios", STORES, ids=lambda names: names[0])
async def test_every_answer_with_usage_is_booked_as_billed(
    plugin_module: ModuleType, tmp_path: Path, scenarios: tuple[str, ...]
) -> None:
    with running(plugin_module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        for scenario in scenarios:
            await replay(plugin, scenario)
        booked = events(plugin)
        assert {k for k in plugin.status().counters if k.startswith("failed")} == set()
    priced = [name for name in scenarios if name not in NO_OUTLET | NO_USAGE]
    assert sum(map(money, booked), Decimal(0)) == sum(map(billed, priced), Decimal(0))
    assert len(booked) == sum(
        len(read(name, "pipeline.outlet")) for name in priced if billed_by(name)
    )
    for event in booked:
        assert event.grain == "turn"
        assert event.model in {row["model"] for name in scenarios for row in ledger(name)}


def billed_by(scenario: str) -> bool:
    """Tell whether OpenRouter, and not another connection, sent a bill at all."""
    return bool(ledger(scenario))


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_every_background_task_is_listed_as_unmetered(
    plugin_module: ModuleType, tmp_path: Path, scenario: str
) -> None:
    with running(plugin_module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        await replay(plugin, scenario)
        tasks = [row for row in unmetered(plugin) if row.task != "chat"]
        calls = [call["body"] for call in read(scenario, "pipeline.inlet")]
    seen = Counter(
        (body["metadata"]["task"], body["model"]) for body in calls if "task" in body["metadata"]
    )
    billed_tasks = Counter((TASKS[row["kind"]], row["model"]) for row in ledger(scenario, "task:"))
    assert Counter((row.task, row.model) for row in tasks) == seen
    # Of side-by-side models the captures keep the tasks of the first only.
    assert seen <= billed_tasks
    assert {row.external_user for row in tasks} <= {
        call["user"]["id"] for call in read(scenario, "pipeline.inlet")
    }


async def test_a_continued_answer_is_an_estimate_and_never_the_merged_cost(
    plugin_module: ModuleType, tmp_path: Path
) -> None:
    with running(plugin_module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        for scenario in CONVERSATION:
            await replay(plugin, scenario)
        booked = events(plugin)
    estimates = [event for event in booked if event.cost_source == "estimate"]
    assert [event.estimated_cost_usd for event in estimates] == [
        Decimal(row["cost"]) for name in CONVERSATION if name in CONTINUED for row in ledger(name)
    ]
    assert [event.request_id.rpartition(":")[2] for event in estimates] == ["93", "261"]


@pytest.mark.parametrize("scenario", sorted(CONTINUED))
async def test_a_continued_answer_whose_inlet_a_crash_took_is_pending_and_never_the_merged_cost(
    plugin_module: ModuleType, tmp_path: Path, scenario: str
) -> None:
    with running(plugin_module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        for call in read(scenario, "pipeline.outlet"):
            await plugin.outlet(call["body"], call["user"])
        (event,) = events(plugin)
    (row,) = ledger(scenario)
    assert (event.cost_usd, event.cost_source) == (None, "none")
    assert event.request_id.count(":") == 3
    assert (event.input_tokens, event.output_tokens) == (
        row["prompt_tokens"],
        row["completion_tokens"],
    )


@pytest.mark.parametrize("scenario", ["e_stop_in_tool_loop", "e_ui_stop", "k_saved_402"])
async def test_an_answer_that_never_ends_is_unmetered_when_the_wait_is_over(
    plugin_module: ModuleType, tmp_path: Path, scenario: str
) -> None:
    with running(plugin_module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        await replay(plugin, scenario)
        assert [row for row in unmetered(plugin) if row.task == "chat"] == []
        expire_answers(plugin)
        (row,) = [row for row in unmetered(plugin) if row.task == "chat"]
    (call,) = [c for c in read(scenario, "pipeline.inlet") if "task" not in c["body"]["metadata"]]
    metadata = call["body"]["metadata"]
    assert row.request_id == f"turn:{metadata['chat_id']}:{metadata['message_id']}"
    assert row.model == call["body"]["model"]


@pytest.mark.parametrize("scenario", sorted(NO_USAGE))
async def test_an_answer_without_usage_is_unmetered_at_once(
    plugin_module: ModuleType, tmp_path: Path, scenario: str
) -> None:
    with running(plugin_module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        await replay(plugin, scenario)
        assert [row.task for row in unmetered(plugin)] == ["chat"]


async def test_another_connection_is_not_metered(plugin_module: ModuleType, tmp_path: Path) -> None:
    with running(plugin_module, "Pipeline", spool_dir=str(tmp_path)) as plugin:
        await replay(plugin, "l_other_connection")
        expire_answers(plugin)
        assert events(plugin) == []
        assert unmetered(plugin) == []


@pytest.mark.parametrize("scenarios", STORES, ids=lambda names: names[0])
async def test_both_hosts_together_book_each_bill_once(
    plugin_module: ModuleType, tmp_path: Path, scenarios: tuple[str, ...]
) -> None:
    spool_dir = str(tmp_path)
    with (
        running(plugin_module, "Pipeline", spool_dir=spool_dir) as pipeline,
        running(load_as_function(), "Filter", spool_dir=spool_dir) as function,
    ):
        for scenario in scenarios:
            await replay_both(pipeline, function, scenario)
        expire(function)
        by_pipeline, by_function = events(pipeline), events(function)
        tasks_and_silent = unmetered(pipeline)
    streamed = {row["id"] for name in scenarios for row in ledger(name) if row["stream"]}
    # Whatever the stream hook booked, the Pipelines outlet left alone.
    assert {event.request_id for event in by_pipeline} == {
        event.request_id for event in by_function if event.request_id not in streamed
    }
    bills = resolve([*by_pipeline, *by_function]).bills
    assert len({bill.event.request_id for bill in bills}) == len(bills)
    settled = sum((b.event.cost_usd for b in bills if b.event.cost_usd is not None), Decimal(0))
    seen = {bill.event.request_id for bill in bills if bill.event.cost_usd is not None}
    expected = sum(
        (
            Decimal(row["cost"])
            for name in scenarios
            for row in ledger(name)
            if row["id"] in seen or (not row["stream"] and name not in NO_OUTLET)
        ),
        Decimal(0),
    )
    assert settled == expected
    assert all(isinstance(row, UnmeteredRow) for row in tasks_and_silent)


async def replay_both(pipeline: Any, function: Any, scenario: str) -> None:
    """Replay all hooks; the outlet carries what the stream hook left in the usage object."""
    for call in read(scenario, "pipeline.inlet"):
        await pipeline.inlet(call["body"], call["user"])
    answers = Answers(scenario)
    left: dict[object, list[str]] = {}
    for chunk, metadata in answers.chunks():
        event = await function.stream(chunk, __metadata__=metadata)
        if "usage_ledger" in (event.get("usage") or {}):
            left[metadata["message_id"]] = event["usage"]["usage_ledger"]
    users = [call["user"] for call in read(scenario, "pipeline.outlet")]
    for user, (body, metadata) in zip(users, answers.outlets(), strict=True):
        usage = body["messages"][-1].get("usage")
        if usage and metadata["message_id"] in left:
            usage["usage_ledger"] = left[metadata["message_id"]]
        await function.outlet(await pipeline.outlet(body, user), __metadata__=metadata)
