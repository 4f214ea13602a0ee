"""Which bills must be resolved, told from identities alone."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from shared.event_store.overlaps import Entangled, Identity, crossed_messages, entangle
from tests.support.builders import settled

GENERATION = Identity("gen-1", False, "chat", "message")
TURN = Identity("turn:chat:message", True, "chat", "message")

names = st.sampled_from(["a", "b", "c"])
identities = st.builds(Identity, names, st.booleans(), st.none() | names, st.none() | names)


def test_bills_observed_once_are_not_entangled() -> None:
    found = entangle([GENERATION, GENERATION._replace(request_id="gen-2"), Identity("gen-3")])
    assert found == Entangled()
    assert not found


def test_a_bill_observed_twice_is_entangled_and_its_neighbour_is_not() -> None:
    found = entangle([Identity("gen-1"), Identity("gen-2"), Identity("gen-1", False, "c", "m")])
    assert found == Entangled({"gen-1"}, set())
    assert found


def test_a_turn_beside_generations_of_its_message_is_entangled_in_any_order() -> None:
    other = TURN._replace(request_id="turn:chat:other", message_id="other")
    for order in permutations([GENERATION, TURN, other]):
        assert entangle(order) == Entangled(set(), {"message"})


def test_a_turn_of_another_chat_or_without_one_stands_alone() -> None:
    assert not entangle([GENERATION, TURN._replace(chat_id="other")])
    assert not entangle([GENERATION, TURN._replace(chat_id=None)])
    assert not entangle([GENERATION, TURN._replace(message_id=None)])
    assert not entangle([TURN, TURN._replace(request_id="turn:chat:message:9")])


@given(st.lists(identities), st.randoms())
def test_the_order_of_arrival_does_not_matter(drawn: list[Identity], order: object) -> None:
    shuffled = order.sample(drawn, len(drawn))  # type: ignore[attr-defined]
    assert entangle(shuffled) == entangle(drawn)


def test_observations_that_disagree_may_belong_to_an_answer_that_none_names() -> None:
    halves = [settled(message_id=None), settled(chat_id=None, message_id="other")]
    assert crossed_messages(halves) == {"other"}
    rivals = [settled(), settled(chat_id="chat-2", message_id="message-2")]
    assert crossed_messages(rivals) == {"message-1", "message-2"}


def test_observations_that_agree_or_say_nothing_cross_nothing() -> None:
    assert crossed_messages([settled(), settled(chat_id=None, message_id=None)]) == set()
    assert crossed_messages([settled(chat_id=None), settled(request_id="gen-2")]) == set()
