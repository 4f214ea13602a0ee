"""Resolution: one amount per bill, whatever arrives, in whatever order, however often."""

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.event import UsageEvent
from shared.core.ids import part_request_id
from shared.projection.resolution import Bill, resolve, still_unmetered
from tests.support.builders import (
    ALICE,
    BOB,
    NOON,
    NOON_SECONDS,
    generation_id,
    pending,
    settled,
    turn,
    unmetered,
)

_JUST_AFTER = NOON + timedelta(milliseconds=1)


def the_bill(*events: UsageEvent) -> Bill:
    (bill,) = resolve(events).bills
    return bill


@st.composite
def observations(draw: st.DrawFn) -> UsageEvent:
    number = draw(st.integers(1, 3))
    fields: dict[str, Any] = {
        "request_id": generation_id(number),
        "occurred_at": NOON + timedelta(seconds=draw(st.integers(-20, 20))),
        "external_user": draw(st.sampled_from([ALICE, BOB])),
        "source": draw(st.sampled_from(["function", "pipeline", "webhook", "import:a"])),
        "total_tokens": draw(st.integers(0, 3)),
        "chat_id": draw(st.sampled_from([None, "chat-1"])),
        "message_id": draw(st.sampled_from([None, "message-1", "message-2"])),
        "model": draw(st.sampled_from(["unresolved:preset", "openai/gpt-5-mini"])),
    }
    if draw(st.booleans()):
        fields |= {"request_id": f"turn:chat-1:message-{number}", "grain": "turn"}
    if draw(st.booleans()):
        return pending(**fields)
    cost_source = draw(st.sampled_from(["response", "outlet", "webhook"]))
    return settled(**fields, cost_source=cost_source, cost_usd=draw(st.integers(0, 2)))


@given(st.lists(observations(), max_size=8), st.randoms(use_true_random=False))
def test_every_order_and_any_repetition_give_the_same_bills(
    events: list[UsageEvent], shuffler: random.Random
) -> None:
    again = events + shuffler.choices(events, k=len(events)) if events else []
    shuffler.shuffle(again)
    for turns in ("bill", "observe"):
        assert resolve(again, turns=turns) == resolve(events, turns=turns)


def test_pending_then_settled_is_settled() -> None:
    for events in ((pending(), settled()), (settled(), pending())):
        bill = the_bill(*events)
        assert bill.event.cost_usd == Decimal("0.00002025")
        assert (bill.observations, bill.conflict) == (2, False)


def test_the_larger_of_two_running_totals_counts() -> None:
    half = settled(cost_usd=1e-05, total_tokens=9, output_tokens=4)
    bill = the_bill(settled(), half)
    assert bill.event.total_tokens == 18
    assert bill.event.cost_usd == Decimal("0.00002025")


def test_two_answers_of_equal_rank_with_different_money_are_a_conflict() -> None:
    resolution = resolve([settled(), settled(cost_usd=3e-05)])
    assert resolution.bills[0].event.cost_usd == Decimal("0.00003")
    [finding] = resolution.findings
    assert (finding.kind, finding.detail) == (
        "conflict",
        "2 observations: 0.00002025 or 0.00003 USD; function counts, 0.00003 USD",
    )


def test_a_conflict_about_what_the_provider_bills_names_both_amounts() -> None:
    told = [settled(is_byok=True, upstream_cost_usd=usd) for usd in ("0.1", "0.12", None)]
    [finding] = resolve(told).findings
    assert finding.detail.startswith(
        "3 observations: 0.00002025 or 0.00002025 (BYOK, provider bills 0.1) or "
        "0.00002025 (BYOK, provider bills 0.12) USD; function counts, 0.00002025"
    )


def test_a_merged_record_that_disagrees_with_the_answer_is_no_conflict() -> None:
    merged = settled(source="pipeline", cost_source="outlet", cost_usd=8.400000000000001e-05)
    bill = the_bill(merged, settled())
    assert (bill.event.cost_source, bill.conflict) == ("response", False)


def test_an_estimate_never_beats_a_settled_amount_but_beats_nothing() -> None:
    estimate = pending(cost_source="estimate", estimated_cost_usd=1, total_tokens=99)
    assert the_bill(estimate, settled()).event.cost_source == "response"
    assert the_bill(estimate, pending()).event.estimated_cost_usd == 1


def test_who_and_where_come_from_the_hook_nearest_to_the_person() -> None:
    webhook = settled(
        source="webhook",
        external_user="key-owner",
        chat_id=None,
        message_id=None,
        cost_usd=9,
        cost_source="response",
        total_tokens=99,
    )
    event = the_bill(pending(), webhook).event
    assert (event.cost_usd, event.total_tokens) == (Decimal(9), 99)
    assert (event.external_user, event.chat_id, event.message_id) == (ALICE, "chat-1", "message-1")


def test_a_resolved_model_beats_a_preset() -> None:
    best = settled(model="unresolved:lab", cost_usd=1)
    assert the_bill(best, pending(model="openai/gpt-5")).event.model == "openai/gpt-5"


def test_a_settled_generation_supersedes_the_turn_of_its_message() -> None:
    bill = the_bill(turn(), settled())
    assert bill.event.grain == "generation"


def test_a_turn_counts_for_generations_that_are_all_pending() -> None:
    bill = the_bill(turn(), pending(), pending(request_id=generation_id(2)))
    assert bill.event.request_id == "turn:chat-1:message-1"


def test_a_turn_stands_only_for_its_own_part_of_a_continued_answer() -> None:
    later = NOON + timedelta(seconds=60)
    part = settled(request_id=generation_id(2, NOON_SECONDS + 61), occurred_at=later)
    continued = turn(request_id="turn:chat-1:message-1:93", occurred_at=later)
    bills = resolve([turn(), continued, part]).bills
    assert [bill.event.request_id for bill in bills] == [part.request_id, turn().request_id]


def test_the_clock_of_a_turn_may_be_five_seconds_late() -> None:
    near, far = NOON - timedelta(seconds=5), NOON - timedelta(seconds=6)
    assert len(resolve([turn(), settled(occurred_at=near)]).bills) == 1
    assert len(resolve([turn(), settled(occurred_at=far)]).bills) == 2


def test_observed_turns_stay_out_of_the_bill_and_unexplained_ones_are_found() -> None:
    lonely = turn(request_id="turn::msg_1", chat_id=None, message_id="msg_1")
    resolution = resolve([turn(), settled(), lonely], turns="observe")
    assert [bill.event.grain for bill in resolution.bills] == ["generation"]
    assert [finding.request_id for finding in resolution.findings] == ["turn::msg_1"]


@pytest.mark.parametrize(
    ("event", "cancelled"),
    [
        (turn(request_id="turn:chat-1:message-1:99"), True),
        (settled(), True),
        (settled(occurred_at=NOON + timedelta(hours=1)), True),
        (settled(message_id="message-2"), False),
        # The part before, begun just now; a generation of this one has whole seconds.
        (settled(occurred_at=NOON - timedelta(seconds=3)), False),
        (settled(occurred_at=NOON - timedelta(seconds=1)), True),
        # The next part of the answer, continued at once: it says nothing of the one before.
        (turn(request_id="turn:chat-1:message-1:99", occurred_at=_JUST_AFTER), False),
    ],
)
def test_a_silent_part_is_cancelled_by_its_outlet_or_by_a_later_generation(
    event: UsageEvent, cancelled: bool
) -> None:
    name = part_request_id("chat-1", "message-1", NOON)
    silent = unmetered(request_id=name, message_id="message-1", task="chat")
    task = unmetered()
    left = still_unmetered([silent, task, task], [event])
    expected = {task.request_id} if cancelled else {task.request_id, silent.request_id}
    assert {row.request_id for row in left} == expected
    assert len(left) == len(expected)


def test_a_late_outlet_cancels_the_row_that_has_its_name() -> None:
    row = unmetered(request_id=turn().request_id, message_id="message-1", task="chat")
    assert still_unmetered([row], [turn(occurred_at=NOON - timedelta(minutes=1))]) == []


@pytest.mark.parametrize(("message_id", "cancelled"), [("msg_1", True), ("msg_2", False)])
def test_an_answer_of_the_api_is_cancelled_by_the_generation_that_has_its_message(
    message_id: str, cancelled: bool
) -> None:
    row = unmetered(request_id="turn::msg_1", chat_id="", message_id="msg_1", task="chat")
    begun = pending(chat_id="", message_id=message_id, occurred_at=NOON - timedelta(minutes=9))
    assert still_unmetered([row], [begun]) == ([] if cancelled else [row])
