"""What the Function hooks book, chunk by chunk, where captured bodies do not reach."""

import asyncio
import json
import time
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

from shared.spool.lock import spool_lock
from tests.host.bodies import chunk, generation_id, last_chunk, metadata, usage
from tests.host.plugin import events, expire, load_as_function, running, session

HOST = "function"


def costs(plugin: Any) -> dict[str, Decimal | None]:
    return {event.request_id: event.cost_usd for event in events(plugin)}


async def test_a_generation_without_usage_is_pending_after_the_quiet_time(plugin: Any) -> None:
    await plugin.stream(chunk(content="Hel"), __metadata__=metadata())
    assert events(plugin) == []
    expire(plugin)
    assert costs(plugin) == {generation_id(): None}


async def test_usage_that_comes_after_the_quiet_time_still_prices_it(plugin: Any) -> None:
    answer = metadata()
    await plugin.stream(chunk(content="Hel"), __metadata__=answer)
    expire(plugin)
    await plugin.stream(last_chunk(), __metadata__=answer)
    assert [event.cost_usd for event in events(plugin)] == [None, Decimal("0.000009")]


async def test_an_error_in_mid_stream_leaves_the_generation_pending(plugin: Any) -> None:
    answer = metadata()
    await plugin.stream(chunk(content="Hel"), __metadata__=answer)
    await plugin.stream(chunk(error={"code": 502}), __metadata__=answer)
    expire(plugin)
    assert costs(plugin) == {generation_id(): None}


async def test_an_event_without_id_is_let_through(plugin: Any) -> None:
    answer = metadata()
    await plugin.stream({"selected_model_id": "openai/gpt-5-mini"}, __metadata__=answer)
    await plugin.stream({"error": {"message": "no"}}, __metadata__=answer)
    assert answer == metadata()


async def test_the_finish_reason_of_an_earlier_chunk_is_kept(plugin: Any) -> None:
    answer = metadata()
    await plugin.stream(chunk(content="Hello"), __metadata__=answer)
    finished = chunk(choices=[{"delta": {"content": ""}, "finish_reason": "length"}])
    await plugin.stream(finished, __metadata__=answer)
    await plugin.stream(last_chunk(), __metadata__=answer)
    assert [event.finish_reason for event in events(plugin)] == ["length"]


async def test_usage_in_the_finish_chunk_and_again_is_one_event(plugin: Any) -> None:
    answer = metadata()
    for choices in ([{"delta": {"content": ""}, "finish_reason": "stop"}], []):
        await plugin.stream(chunk(choices=choices, usage=usage()), __metadata__=answer)
    assert costs(plugin) == {generation_id(): Decimal("0.000009")}
    assert len(events(plugin)) == 1


async def test_of_running_totals_only_the_last_counts(plugin: Any) -> None:
    answer = metadata()
    for output in (1, 2, 3):
        await plugin.stream(chunk(content="x", usage=usage(output)), __metadata__=answer)
    assert events(plugin) == []
    await plugin.stream(last_chunk(1, 4), __metadata__=answer)
    await plugin.outlet({"id": "message-1", "messages": []}, __metadata__=answer)
    assert costs(plugin) == {generation_id(): Decimal("0.000004")}


async def test_the_outlet_books_a_running_total_that_nothing_followed(plugin: Any) -> None:
    answer = metadata()
    for output in (1, 2):
        event = await plugin.stream(chunk(content="x", usage=usage(output)), __metadata__=answer)
        assert event["usage"]["usage_ledger"] == [generation_id()]
    await plugin.outlet({"id": "message-1", "messages": []}, __metadata__=answer)
    expire(plugin)
    assert costs(plugin) == {generation_id(): Decimal("0.000002")}


async def test_a_stopped_running_total_is_pending_with_its_tokens(plugin: Any) -> None:
    answer = metadata()
    for output in (1, 2):
        await plugin.stream(chunk(content="x", usage=usage(output)), __metadata__=answer)
    expire(plugin)
    (event,) = events(plugin)
    assert (event.cost_usd, event.cost_source, event.output_tokens) == (None, "none", 2)


async def test_a_generation_that_begins_with_a_running_total_is_noted_at_once(plugin: Any) -> None:
    await plugin.stream(chunk(content="x", usage=usage(1)), __metadata__=metadata())
    session(plugin).spool.put([]).result(30)
    assert plugin.status().spool.open_generations == 1


async def test_the_next_step_of_a_tool_loop_books_the_running_total_before_it(plugin: Any) -> None:
    answer = metadata()
    await plugin.stream(chunk(1, content="x", usage=usage(5)), __metadata__=answer)
    await plugin.stream(chunk(2, content="y"), __metadata__=answer)
    await plugin.stream(last_chunk(2, 6), __metadata__=answer)
    assert costs(plugin) == {
        generation_id(1): Decimal("0.000005"),
        generation_id(2): Decimal("0.000006"),
    }
    assert list(answer["usage_ledger"]["booked"]) == [generation_id(1), generation_id(2)]


async def test_the_state_of_an_answer_is_plain_json_without_a_word_of_it(plugin: Any) -> None:
    answer = metadata()
    await plugin.stream(chunk(content="a secret", usage=usage(5)), __metadata__=answer)
    assert "secret" not in json.dumps(answer)


async def test_a_reload_in_mid_answer_loses_nothing(module: ModuleType, tmp_path: Path) -> None:
    answer = metadata()
    with running(module, "Filter", spool_dir=str(tmp_path)) as first:
        await first.stream(chunk(1, content="x", usage=usage(5)), __metadata__=answer)
    with running(load_as_function(), "Filter", spool_dir=str(tmp_path)) as second:
        await second.stream(chunk(2, content="y"), __metadata__=answer)
        await second.stream(last_chunk(2, 6), __metadata__=answer)
        await second.outlet({"id": "message-1", "messages": []}, __metadata__=answer)
        assert len(costs(second)) == 2
        assert None not in costs(second).values()


async def test_the_same_file_installed_twice_books_once(module: ModuleType, tmp_path: Path) -> None:
    answer = metadata()
    bodies = [
        chunk(1, content="x"),
        last_chunk(1, 3),
        chunk(2, content="y", usage=usage(4)),
    ]
    spool_dir = str(tmp_path)
    with (
        running(module, "Filter", spool_dir=spool_dir) as one,
        running(load_as_function(), "Filter", spool_dir=spool_dir) as other,
    ):
        for body in bodies:
            for plugin in (one, other):
                await plugin.stream(body, __metadata__=answer)
        for plugin in (one, other):
            await plugin.outlet({"id": "message-1", "messages": []}, __metadata__=answer)
        for plugin in (one, other):
            expire(plugin)
        booked = events(one)
    assert [(event.request_id, event.output_tokens) for event in booked] == [
        (generation_id(1), 3),
        (generation_id(2), 4),
    ]


async def test_what_the_spool_refused_is_not_left_as_booked(
    module: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "usage").write_text("a file where the folder should be")
    with running(module, "Filter", spool_dir=str(tmp_path / "usage")) as plugin:
        event = await plugin.stream(last_chunk(), __metadata__=metadata())
        assert "usage_ledger" not in event["usage"]
        assert plugin.status().counters["not_spooled"] == 1


async def test_a_slow_disk_holds_a_hook_for_a_quarter_of_a_second_and_loses_nothing(
    plugin: Any, tmp_path: Path
) -> None:
    await plugin.stream(last_chunk(1), __metadata__=metadata())
    answer = metadata(message_id="message-2")
    with spool_lock(tmp_path / "function.sqlite3"):
        began = time.perf_counter()
        ticks: list[float] = []
        beside = asyncio.create_task(note_ticks(ticks))
        event = await plugin.stream(last_chunk(2), __metadata__=answer)
        took = time.perf_counter() - began
        beside.cancel()
    assert 0.2 < took < 2
    assert len(ticks) > 20
    assert event["usage"]["usage_ledger"] == [generation_id(2)]
    # The next event waits its turn behind the one that overran.
    await plugin.stream(last_chunk(3), __metadata__=metadata())
    assert plugin.status().spool_counters["overrun"] >= 1
    assert set(costs(plugin)) == {generation_id(1), generation_id(2), generation_id(3)}


async def note_ticks(ticks: list[float]) -> None:
    """Run beside a hook: this could not while the hook blocked the event loop."""
    while True:
        await asyncio.sleep(0.001)
        ticks.append(time.perf_counter())
