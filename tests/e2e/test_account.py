"""The comparison itself: whatever is missing, twice or wrong in the books must show in it."""

from typing import Any

import pytest

from shared.core.event import UsageEvent
from shared.core.rows import UnmeteredRow
from shared.projection.resolution import Bill, resolve
from tests.e2e.account import Row, settle_account
from tests.e2e.fates import Fate
from tests.support.builders import NOON, generation_id, pending, settled, turn


def ledger_row(number: int = 1, **fields: Any) -> Row:
    """Return the mock's line for the generation that `tests.support.builders.settled` books."""
    row: Row = {
        "id": generation_id(number),
        "connection": "openrouter",
        "status": "ok",
        "requested_model": "openai/gpt-5-mini",
        "model": "openai/gpt-5-mini",
        "prompt_tokens": 9,
        "completion_tokens": 9,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "cost": "0.00002025",
        "upstream_cost": None,
        "is_byok": False,
        "sent_by": {"chat": "chat-1", "message": "message-1", "task": ""},
    }
    return row | fields


def bills(*events: UsageEvent) -> list[Bill]:
    """Return the bills of some events."""
    return resolve(events).bills


def test_what_is_booked_exactly_is_booked() -> None:
    account = settle_account([ledger_row()], bills(settled()), [])
    assert (account.in_order, account.wrong) == ([Fate.BOOKED], [])
    assert account.difference_usd == 0


def test_what_is_missing_is_hidden() -> None:
    assert settle_account([ledger_row()], [], []).in_order == [Fate.HIDDEN]


def test_what_is_pending_is_not_booked() -> None:
    account = settle_account([ledger_row()], bills(pending()), [])
    assert account.in_order == [Fate.PENDING]
    assert account.booked_usd == 0


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"cost": "0.000020250001"}, "cost_usd"),
        ({"prompt_tokens": 8}, "input_tokens"),
        ({"cached_tokens": 4}, "cached_tokens"),
        ({"is_byok": True, "upstream_cost": "0.1"}, "is_byok"),
        ({"model": "openai/gpt-5-nano"}, "model"),
        ({"sent_by": {"chat": "chat-2", "message": "message-1"}}, "chat_id"),
        ({"connection": "foreign"}, "not billed through OpenRouter"),
        ({"status": "refused"}, "not billed through OpenRouter"),
    ],
)
def test_a_wrong_detail_is_named(row: Row, what: str) -> None:
    account = settle_account([ledger_row(**row)], bills(settled()), [])
    assert any(what in wrong for wrong in account.wrong)


def test_a_bill_without_a_generation_is_named() -> None:
    account = settle_account([], bills(settled()), [])
    assert account.wrong == [f"{generation_id()} is in no ledger"]
    assert account.difference_usd > 0


def test_an_answer_booked_twice_is_named() -> None:
    twice = [Bill(event, observations=1) for event in (settled(), turn())]
    account = settle_account([ledger_row()], twice, [])
    assert account.wrong == ["turn:chat-1:message-1 stands for no generation"]


def test_a_turn_stands_for_all_generations_of_its_message() -> None:
    rows = [ledger_row(1), ledger_row(2)]
    whole = turn(input_tokens=18, output_tokens=18, total_tokens=36, cost_usd="0.0000405")
    account = settle_account(rows, bills(whole), [])
    assert (account.in_order, account.wrong) == ([Fate.BOOKED] * 2, [])


def test_a_turn_of_another_amount_is_misstated() -> None:
    account = settle_account([ledger_row()], bills(turn(cost_usd="0.00003")), [])
    assert account.in_order == [Fate.MISSTATED]
    assert account.difference_usd > 0


def test_a_task_counted_twice_is_named() -> None:
    task = ledger_row(sent_by={"chat": "chat-1", "message": "", "task": "title_generation"})
    unmetered = [
        UnmeteredRow(
            request_id=f"task:{number}",
            occurred_at=NOON,
            external_user="alice-id",
            model="openai/gpt-5-mini",
            task="title_generation",
        )
        for number in (1, 2)
    ]
    account = settle_account([task], [], unmetered)
    assert account.in_order == [Fate.UNMETERED]
    assert account.wrong == ["unmetered title_generation task:2 was not billed"]
