"""Overlaps: which bills of a day were observed more than once, by the ids of its events alone."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

from shared.core.event import UsageEvent

_SAW_GENERATION, _SAW_TURN = 1, 2
_SAW_BOTH = _SAW_GENERATION | _SAW_TURN


class EventIdentity(NamedTuple):
    """The ids of an event by which others may overlap with it."""

    request_id: str
    is_turn: bool = False
    chat_id: str | None = None
    message_id: str | None = None


@dataclass(frozen=True)
class Overlaps:
    """What must be resolved: the events of these request_ids, and those of these messages.

    Every other event is a bill of its own. It may name a few too many.
    """

    request_ids: set[str] = field(default_factory=set)
    message_ids: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.request_ids or self.message_ids)


def find_overlaps(identities: Iterable[EventIdentity]) -> Overlaps:
    """Find the bills observed more than once, and the answers seen whole and in generations.

    One pass, which keeps a few bytes per event. They are hashes: two ids of one hash are resolved
    needlessly, to the same result.
    """
    found = Overlaps()
    seen: set[int] = set()
    answers: dict[int, int] = {}
    for request_id, is_turn, chat_id, message_id in identities:
        bill = hash(request_id)
        if bill in seen:
            found.request_ids.add(request_id)
        seen.add(bill)
        if chat_id and message_id:
            answer = hash((chat_id, message_id))
            saw = answers.get(answer, 0) | (_SAW_TURN if is_turn else _SAW_GENERATION)
            answers[answer] = saw
            if saw == _SAW_BOTH:
                found.message_ids.add(message_id)
    return found


def messages_with_conflicting_ids(events: Iterable[UsageEvent]) -> set[str]:
    """Return the messages to which bills may belong although no observation names the pair.

    A bill takes its chat and its message from the first observation that has each of them, so it
    may belong to an answer that no single observation names.
    """
    chats: dict[str, set[str]] = defaultdict(set)
    messages: dict[str, set[str]] = defaultdict(set)
    named: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for event in events:
        if event.chat_id:
            chats[event.request_id].add(event.chat_id)
        if event.message_id:
            messages[event.request_id].add(event.message_id)
        if event.chat_id and event.message_id:
            named[event.request_id].add((event.chat_id, event.message_id))
    return {
        message
        for bill, chats_of_bill in chats.items()
        for chat, message in product(chats_of_bill, messages[bill])
        if (chat, message) not in named[bill]
    }
