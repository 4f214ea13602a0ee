"""The chunks of a stream: a generation is noted with its first, and booked with its usage."""

from functools import partial
from typing import Any, NamedTuple

from pipelines.src.function.answer_state import (
    CONNECTION,
    answer_state,
    leave_booked,
    without_content,
)
from pipelines.src.function.host import ConnectionKeys, connection_index
from pipelines.src.recorder import Recorder
from pipelines.src.valves import UsageValves
from shared.capture.events import generation_event
from shared.capture.openwebui import (
    KEY_HASH,
    LEDGER_KEY,
    generation_chunk,
    is_openrouter_generation,
    is_response_event,
    is_running_total,
    json_object,
    openwebui_id,
)


class StreamedAnswer(NamedTuple):
    """An answer as a hook meets it: the valves of this moment, its state, and its metadata."""

    valves: UsageValves
    state: dict[str, Any]
    metadata: dict[str, Any]


class StreamCapture:
    """Books the generations of all answers; what it knows of one stands in its metadata."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._keys = ConnectionKeys()

    async def take(
        self, valves: UsageValves, event: dict[str, Any], metadata: dict[str, Any]
    ) -> bool:
        """Take an event of a stream; tell whether it is of a generation of OpenRouter."""
        chunk = generation_chunk(event)
        if not is_openrouter_generation(chunk, metadata):
            self._saw_part(event, metadata)
            return False
        state = await self.state(metadata)
        answer = StreamedAnswer(valves, state, metadata)
        if state["id"] != chunk["id"]:
            await self.put_total(answer)
            state["id"], state["finish"] = chunk["id"], None
            if not chunk.get("usage") or is_running_total(chunk):
                state["first"] = without_content(chunk)
                self._recorder.note_open(valves, partial(generation_event, chunk, metadata))
        usage = chunk.get("usage")
        if isinstance(usage, dict) and usage:
            await self._take_usage(answer, chunk)
        return True

    async def state(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return the state of an answer, which knows from its beginning on who pays."""
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
            await self._put_generation(answer, total)

    def name_answer(self, answer: StreamedAnswer, body: dict[str, Any]) -> None:
        """Give a generation that ended without usage the name that its answer has only now.

        A Pipelines outlet of the API, which sees no generation, lists the answer under this name.
        """
        first = answer.state["first"]
        if first and not answer.metadata.get("message_id"):
            named = {**answer.metadata, "message_id": openwebui_id(body.get("id"))}
            self._recorder.note_open(answer.valves, partial(generation_event, first, named))

    def _saw_part(self, event: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Keep a generation open whose events do not name it, as in the Responses API."""
        state = json_object(metadata.get(LEDGER_KEY))
        if isinstance(state.get("id"), str) and is_response_event(event):
            self._recorder.saw(state["id"])

    async def _take_usage(self, answer: StreamedAnswer, chunk: dict[str, Any]) -> None:
        """Book what a chunk says was used, unless it may still grow; leave the ids beside it."""
        state, usage = answer.state, chunk["usage"]
        if is_running_total(chunk):
            state["total"] = without_content(chunk)
            self._recorder.follow(answer.valves).open.grew(state["total"], answer.metadata)
            usage[LEDGER_KEY] = [*state["booked"], chunk["id"]]
            return
        state["total"] = None
        await self._put_generation(answer, chunk)
        if state["booked"]:
            usage[LEDGER_KEY] = list(state["booked"])

    async def _put_generation(self, answer: StreamedAnswer, chunk: dict[str, Any]) -> None:
        """Book a generation; only what the spool took is left as booked for others to see."""
        valves, state, metadata = answer
        state["first"] = None
        draft = partial(generation_event, chunk, metadata, finish_reason=state["finish"])
        leave_booked(state, await self._recorder.book(valves, draft))
