"""Which bills must be resolved, told from identities alone."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from shared.event_store.overlaps import (
    EventIdentity,
    Overlaps,
    find_overlaps,
    messages_with_conflicting_ids,
)
from tests.support.builders import settled

GENERATION = EventIdentity("gen-1", False, "chat", "message")
TURN = EventIdentity("turn:chat:message", True, "chat", "message")

names = st.sampled_from(["a", "b", "c"])
identities = st.builds(EventIdentity, names, st.booleans(), st.none() | names, st.none() | names)


def test_bills_observed_once_are_not_overlapping() -> None:
    found = find_overlaps(
        [GENERATION, GENERATION._replace(request_id="gen-2"), EventIdentity("gen-3")]
    )
    assert found == Overlaps()
    assert not found


def test_a_bill_observed_twice_is_overlapping_and_its_neighbour_is_not() -> None:
    found = find_overlaps(
        [EventIdentity("gen-1"), EventIdentity("gen-2"), EventIdentity("gen-1", False, "c", "m")]
    )
    assert found == Overlaps({"gen-1"}, set())
    assert found


def test_a_turn_beside_generations_of_its_message_is_overlapping_in_any_order() -> None:
    other = TURN._replace(request_id="turn:chat:other", message_id="other")
    for order in permutations([GENERATION, TURN, other]):
        assert find_overlaps(order) == Overlaps(set(), {"message"})


def test_a_turn_of_another_chat_or_without_one_stands_alone() -> None:
    assert not find_overlaps([GENERATION, TURN._replace(chat_id="other")])
    assert not find_overlaps([GENERATION, TURN._replace(chat_id=None)])
    assert not find_overlaps([GENERATION, TURN._replace(message_id=None)])
    assert not find_overlaps([TURN, TURN._replace(request_id="turn:chat:message:9")])


@given(st.lists(identities), st.randoms())
def test_the_order_of_arrival_does_not_matter(drawn: list[EventIdentity], order: object) -> None:
    shuffled = order.sample(drawn, len(drawn))  # type: ignore[attr-defined]
    assert find_overlaps(shuffled) == find_overlaps(drawn)


def test_observations_that_disagree_may_belong_to_an_answer_that_none_names() -> None:
    halves = [settled(message_id=None), settled(chat_id=None, message_id="other")]
    assert messages_with_conflicting_ids(halves) == {"other"}
    rivals = [settled(), settled(chat_id="chat-2", message_id="message-2")]
    assert messages_with_conflicting_ids(rivals) == {"message-1", "message-2"}


def test_observations_that_agree_or_say_nothing_cross_nothing() -> None:
    assert (
        messages_with_conflicting_ids([settled(), settled(chat_id=None, message_id=None)]) == set()
    )
    assert (
        messages_with_conflicting_ids([settled(chat_id=None), settled(request_id="gen-2")]) == set()
    )
