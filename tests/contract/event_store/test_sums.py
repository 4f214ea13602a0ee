"""What every event store adds up."""

from datetime import timedelta
from decimal import Decimal

from shared.core.amounts import Amounts
from shared.core.money import from_pico
from shared.event_store.port import EventStore, Fingerprint
from tests.support.builders import (
    ALICE,
    BOB,
    NOON,
    pending,
    settled,
    turn,
)
from tests.support.stores import AROUND, MILLISECOND, by_id, generation, only_group, read, write


def test_usage_is_added_up_by_who_which_model_which_task_and_seen_by_what(
    store: EventStore,
) -> None:
    write(
        store,
        generation(1),
        generation(2),
        generation(3, external_user=BOB),
        generation(4, model="other/model"),
        generation(5, task="title_generation"),
        generation(6, source="webhook", cost_source="webhook"),
        generation(7, client_org_id="client-2"),
        generation(8, api_key_hash="0a1b2c3d", provider="other", requested_model="alias"),
    )
    found = {
        (g.client_org_id, g.external_user, g.model, g.task, g.source): g.amounts.events
        for g in store.usage(AROUND)
    }
    plain = ("unassigned", ALICE, "openai/gpt-5-mini", "chat", "function")
    assert found == {
        plain: 3,
        ("unassigned", BOB, *plain[2:]): 1,
        (*plain[:2], "other/model", *plain[3:]): 1,
        (*plain[:3], "title_generation", "function"): 1,
        (*plain[:4], "webhook"): 1,
        ("client-2", *plain[1:]): 1,
    }


def test_every_sum_is_exact(store: EventStore) -> None:
    one = generation(
        1,
        input_tokens=1,
        output_tokens=20,
        total_tokens=300,
        cached_tokens=4000,
        cache_write_tokens=50_000,
        reasoning_tokens=600_000,
        cost_usd=Decimal("0.000000000001"),
        is_byok=True,
        upstream_cost_usd=Decimal("8.400000000000"),
    )
    write(store, one, generation(2, cost_usd=Decimal("1234.567890123456")))
    assert only_group(store).amounts == Amounts(
        events=2,
        input_tokens=10,
        output_tokens=29,
        total_tokens=318,
        cached_tokens=4000,
        cache_write_tokens=50_000,
        reasoning_tokens=600_000,
        raw_pico_usd=1_234_567_890_123_457,
        upstream_pico_usd=8_400_000_000_000,
    )


def test_a_part_of_a_request_adds_its_amounts_and_no_request(store: EventStore) -> None:
    whole, part = generation(1), generation(2, part=1)
    write(store, whole, part, generation(3, part=1, external_user=BOB))
    groups = {group.external_user: group for group in store.usage(AROUND)}
    assert (groups[ALICE].amounts.events, groups[ALICE].parts) == (1, 1)
    assert groups[ALICE].amounts.total_tokens == whole.total_tokens + part.total_tokens
    assert (groups[ALICE].amounts.raw_pico_usd, groups[ALICE].amounts.pending) == (40_500_000, 0)
    assert (groups[BOB].amounts.events, groups[BOB].parts) == (0, 1)
    assert [found.events for found in store.fingerprints(AROUND).values()] == [3]
    assert {event.request_id: event.requests for event in read(store)} == {
        generation(number).request_id: count for number, count in ((1, 1), (2, 0), (3, 0))
    }


def test_an_unknown_cost_is_pending_and_never_zero(store: EventStore) -> None:
    estimate = generation(
        3, cost_usd=None, cost_source="estimate", estimated_cost_usd=Decimal("0.5")
    )
    free = generation(4, cost_usd=0)
    unknown = generation(2, cost_usd=None, cost_source="none")
    write(store, unknown, estimate, free)
    sums = only_group(store).amounts
    assert (sums.events, sums.pending, sums.estimated) == (3, 2, 1)
    assert (sums.raw_pico_usd, sums.estimated_pico_usd) == (0, 500_000_000_000)
    assert read(store) == by_id([unknown, estimate, free])


def test_a_window_of_pending_events_alone_adds_up(store: EventStore) -> None:
    write(store, pending())
    assert only_group(store).amounts == Amounts(events=1, pending=1)
    assert store.fingerprints(AROUND) == {NOON: Fingerprint(1, 0, 0)}


def test_sums_beyond_63_bits_are_exact(store: EventStore) -> None:
    largest = 2**63 - 1
    events = [
        generation(
            number,
            cost_usd=from_pico(largest),
            is_byok=True,
            upstream_cost_usd=from_pico(largest),
            total_tokens=2**53,
        )
        for number in range(5)
    ]
    write(store, *events)
    sums = only_group(store).amounts
    assert sums.raw_pico_usd == sums.upstream_pico_usd == 5 * largest
    assert store.fingerprints(AROUND) == {NOON: Fingerprint(5, 5 * largest, 5 * 2**53)}
    assert sum(event.cost_usd or 0 for event in store.events(AROUND)) == from_pico(5 * largest)


def test_fingerprints_are_per_quarter_of_an_hour(store: EventStore) -> None:
    quarter = timedelta(minutes=15)
    write(
        store,
        generation(1, NOON),
        generation(2, NOON + quarter - timedelta(seconds=1)),
        generation(3, NOON + quarter),
        turn(occurred_at=NOON + 2 * quarter - MILLISECOND),
        generation(4, NOON + 5 * quarter),
    )
    assert store.fingerprints(AROUND) == {
        NOON: Fingerprint(2, 40_500_000, 36),
        NOON + quarter: Fingerprint(2, 40_500_000, 36),
        NOON + 5 * quarter: Fingerprint(1, 20_250_000, 18),
    }


def test_a_settled_event_changes_the_fingerprint_of_its_pending_one(store: EventStore) -> None:
    write(store, pending())
    before = store.fingerprints(AROUND)
    write(store, settled())
    assert store.fingerprints(AROUND) != before
