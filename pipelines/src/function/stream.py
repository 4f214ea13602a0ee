"""The chunks of a stream: a generation is tracked from its first, and booked with its usage."""

from functools import partial
from typing import Any, NamedTuple

from pipelines.src.function.answer_state import (
    CONNECTION,
    answer_state,
    leave_booked,
    without_content,
)
from pipelines.src.function.host import ConnectionKeys, connection_index
from pipelines.src.spool_session import SpoolSession
from shared.capture.events import generation_event
from shared.capture.openwebui import (
    KEY_HASH,
    LEDGER_KEY,
    is_running_total,
    openwebui_id,
)


class StreamedAnswer(NamedTuple):
    """An answer as a hook meets it: the session of the hook, the answer's state and metadata."""

    session: SpoolSession
    state: dict[str, Any]
    metadata: dict[str, Any]


class StreamCapture:
    """Books the generations of all answers; what it knows of one stands in its metadata."""

    def __init__(self) -> None:
        self._keys = ConnectionKeys()

    async def take(
        self, session: SpoolSession, chunk: dict[str, Any], metadata: dict[str, Any]
    ) -> None:
        """Take a chunk of a generation of OpenRouter."""
        answer = StreamedAnswer(session, await self.state(metadata), metadata)
        if answer.state["id"] != chunk["id"]:
            await self.put_total(answer)
            answer.state.update(id=chunk["id"], finish=None)
            if not chunk.get("usage") or is_running_total(chunk):
                answer.state["first"] = without_content(chunk)
                session.track(partial(generation_event, chunk, metadata))
        usage = chunk.get("usage")
        if isinstance(usage, dict) and usage:
            await _take_usage(answer, chunk)

    async def state(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return the state of an answer, which holds the hash of the key that pays for it."""
        state = answer_state(metadata)
        if state[KEY_HASH] is None:
            index = state[CONNECTION]
            if type(index) is not int:
                index = connection_index(metadata)
            state[KEY_HASH] = await self._keys.hash_of(index)
        return state

    async def put_total(self, answer: StreamedAnswer) -> None:
        """Book the last running total of a generation that has ended."""
        total, answer.state["total"] = answer.state["total"], None
        if total:
            await _book_generation(answer, total)

    def name_answer(self, answer: StreamedAnswer, body: dict[str, Any]) -> None:
        """Give a generation that ended without usage the name that its answer has only now.

        A Pipelines outlet of the API, which sees no generation, lists the answer under this name.
        """
        first = answer.state["first"]
        if first and not answer.metadata.get("message_id"):
            named = {**answer.metadata, "message_id": openwebui_id(body.get("id"))}
            answer.session.track(partial(generation_event, first, named))


async def _take_usage(answer: StreamedAnswer, chunk: dict[str, Any]) -> None:
    """Book the usage of a chunk, unless it may still grow; leave the ids beside it."""
    state, usage = answer.state, chunk["usage"]
    if is_running_total(chunk):
        state["total"] = without_content(chunk)
        answer.session.open.grew(state["total"], answer.metadata)
        usage[LEDGER_KEY] = [*state["booked"], chunk["id"]]
        return
    state["total"] = None
    await _book_generation(answer, chunk)
    if state["booked"]:
        usage[LEDGER_KEY] = list(state["booked"])


async def _book_generation(answer: StreamedAnswer, chunk: dict[str, Any]) -> None:
    """Book a generation; only what the spool took is left as booked for others to see."""
    session, state, metadata = answer
    state["first"] = None
    draft = partial(generation_event, chunk, metadata, finish_reason=state["finish"])
    leave_booked(state, await session.book(draft))
