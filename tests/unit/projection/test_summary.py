"""Summary rows: exact sums and one rounding per row."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shared.core.amounts import Amounts, RunningAmounts
from shared.core.event import UsageEvent
from shared.core.money import to_pico
from shared.projection.organization import Directory, MarkupRate
from shared.projection.summary import SummaryKey, priced
from tests.support.builders import ALICE, BOB, generation_id, pending, settled
from tests.support.ledger import DAY, DEFAULTS, organization


def key(user: str = ALICE, organization_id: str = "acme") -> SummaryKey:
    return SummaryKey(
        organization_id=organization_id,
        local_date=DAY,
        external_user=user,
        model="openai/gpt-5-mini",
        task="chat",
        source="function",
    )


def directory(ppm: int = 1_300_000, *, fee_only: bool = False) -> Directory:
    known = {"acme": organization("acme", fee_only=fee_only)}
    return Directory(known, [MarkupRate("acme", date(1970, 1, 1), ppm)], (), DEFAULTS)


def added(events: Sequence[UsageEvent], books: Directory) -> Amounts:
    running = RunningAmounts()
    for event in events:
        running.add_event(event)
    [row] = priced({key(): running}, books)
    return row.amounts


def test_a_row_adds_up_what_its_bills_say() -> None:
    event = settled(
        cached_tokens=1, cache_write_tokens=2, reasoning_tokens=3, cost_usd=Decimal("0.000001")
    )
    amounts = added([event, event], directory())
    assert asdict(amounts) == {
        "events": 2,
        "pending": 0,
        "estimated": 0,
        "input_tokens": 18,
        "output_tokens": 18,
        "total_tokens": 36,
        "cached_tokens": 2,
        "cache_write_tokens": 4,
        "reasoning_tokens": 6,
        "raw_pico_usd": 2_000_000,
        "upstream_pico_usd": 0,
        "estimated_pico_usd": 0,
        "billed_pico_usd": 2_600_000,
    }


def test_unknown_is_counted_as_pending_and_never_as_an_amount() -> None:
    estimate = pending(cost_source="estimate", estimated_cost_usd=Decimal("0.5"))
    amounts = added([pending(), estimate], directory())
    assert (amounts.events, amounts.pending, amounts.estimated) == (2, 2, 1)
    assert (amounts.raw_pico_usd, amounts.billed_pico_usd) == (0, 0)
    assert amounts.estimated_pico_usd == 5 * 10**11


def test_the_base_of_the_markup_is_fee_and_upstream_unless_it_is_the_fee_only() -> None:
    byok = settled(is_byok=True, cost_usd=Decimal("0.05"), upstream_cost_usd=Decimal(1))
    assert added([byok], directory()).billed_pico_usd == 1_365_000_000_000
    assert added([byok], directory(fee_only=True)).billed_pico_usd == 65_000_000_000


def test_a_row_is_rounded_once_and_half_to_even() -> None:
    half = settled(cost_usd=Decimal("0.000000000005"))
    assert added([half], directory(1_300_000)).billed_pico_usd == 6  # 6.5
    assert added([half, half, half], directory(1_300_000)).billed_pico_usd == 20  # 19.5
    assert added([half], directory(1_500_000)).billed_pico_usd == 8  # 7.5


def test_rows_come_in_the_order_of_their_keys() -> None:
    running = RunningAmounts()
    running.add_event(settled())
    keys = [key(BOB), key(ALICE), key(ALICE, "zeta"), key(BOB, "beta")]
    rows = priced(dict.fromkeys(keys, running), directory())
    assert [row.key for row in rows] == sorted(keys)


costs = st.decimals(Decimal(0), Decimal(9_000_000), places=12)


@given(st.lists(costs, min_size=1, max_size=20), st.integers(0, 5_000_000), st.randoms())
def test_the_order_of_bills_changes_no_digit(
    amounts: list[Decimal], ppm: int, order: Random
) -> None:
    events = [
        settled(request_id=generation_id(number), cost_usd=cost)
        for number, cost in enumerate(amounts)
    ]
    shuffled = order.sample(events, len(events))
    assert added(events, directory(ppm)) == added(shuffled, directory(ppm))
    assert added(events, directory(ppm)).raw_pico_usd == sum(map(to_pico, amounts))
