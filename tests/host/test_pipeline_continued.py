"""Answers in parts, as Pipelines alone sees them: every part is in the books, each once."""

import copy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shared.projection.resolution import resolve, still_unmetered
from tests.host.bodies import ALICE_HERSELF, continued, outlet, request
from tests.host.plugin import events, load_as_pipeline, put_overdue, running, unmetered

HOST = "pipeline"


@pytest.fixture
def plugin(plugin: Any) -> Any:
    plugin._recorder.clock = Ticking()
    return plugin


class Ticking:
    """A clock that advances a second at each reading: no answer is continued sooner."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def now(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


async def begin(plugin: Any, body: dict[str, Any]) -> None:
    assert await plugin.inlet(body, ALICE_HERSELF) is body


async def end(plugin: Any, tokens: int = 5, total: int = 18) -> None:
    """Let the outlet of the part under way come; `total` are the tokens of all parts."""
    body = outlet(prompt_tokens=20, completion_tokens=tokens, total_tokens=total)
    await plugin.outlet(body, ALICE_HERSELF)


def expire_answers(plugin: Any) -> None:
    """Let the wait for every outlet pass."""
    put_overdue(plugin, hours=1, minutes=1)


def books(plugin: Any) -> list[str]:
    """Return what is billed, what is estimated and what is unmetered, in their order of time."""
    bills = [
        (bill.event.occurred_at, bill.event.cost_source) for bill in resolve(events(plugin)).bills
    ]
    left = [
        (row.occurred_at, "unmetered") for row in still_unmetered(unmetered(plugin), events(plugin))
    ]
    return [kind for _, kind in sorted(bills + left)]


async def test_an_answer_stopped_and_then_continued_stays_unmetered(plugin: Any) -> None:
    await begin(plugin, request())
    await begin(plugin, continued())
    await end(plugin)
    assert books(plugin) == ["unmetered", "estimate"]
    (event,) = events(plugin)
    assert event.estimated_cost_usd == Decimal("0.000015")


async def test_a_continued_part_that_is_stopped_is_unmetered_beside_the_first(plugin: Any) -> None:
    await begin(plugin, request())
    await plugin.outlet(outlet(), ALICE_HERSELF)
    await begin(plugin, continued())
    expire_answers(plugin)
    assert books(plugin) == ["outlet", "unmetered"]


async def test_every_part_that_is_stopped_is_a_row_of_its_own(plugin: Any) -> None:
    for body in (request(), continued(), continued()):
        await begin(plugin, body)
    expire_answers(plugin)
    assert books(plugin) == ["unmetered"] * 3


async def test_a_continued_part_that_ends_after_all_is_no_longer_unmetered(plugin: Any) -> None:
    await begin(plugin, request())
    await begin(plugin, continued())
    expire_answers(plugin)
    assert books(plugin) == ["unmetered"] * 2
    await end(plugin)
    assert books(plugin) == ["unmetered", "estimate"]


async def test_the_same_file_installed_twice_lists_a_stopped_part_once(
    module: ModuleType, tmp_path: Path
) -> None:
    valves = {"spool_dir": str(tmp_path), "user_directory": False}
    with (
        running(module, "Pipeline", **valves) as one,
        running(load_as_pipeline(), "Pipeline", **valves) as other,
    ):
        for body in (request(), continued()):
            await begin(one, body)
            await begin(other, copy.deepcopy(body))
        for plugin in (one, other):
            expire_answers(plugin)
        assert books(one) == ["unmetered"] * 2


async def test_parts_that_come_to_the_same_total_are_each_booked_once(plugin: Any) -> None:
    for body in (request(), continued(), continued()):
        await begin(plugin, body)
        for _ in range(2):
            await end(plugin)
    assert books(plugin) == ["outlet", "estimate", "estimate"]


@pytest.mark.parametrize("left", [0, -1, 10**30, True, "1", None, [1], 1e300])
async def test_a_time_that_a_stranger_left_is_not_believed(plugin: Any, left: object) -> None:
    body = continued()
    body["metadata"]["usage_ledger_part"] = left
    await begin(plugin, body)
    expire_answers(plugin)
    (row,) = unmetered(plugin)
    assert abs(row.occurred_at - datetime.now(UTC)) < timedelta(minutes=5)
