"""The Function filter: what Open WebUI runs inside itself, one event per streamed generation."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.src.answer_state import answer_state, leave_booked, without_content
from pipelines.src.connection_keys import ConnectionKeys
from pipelines.src.cost_line import EventEmitter, cost_line, show_status
from pipelines.src.recorder import Recorder
from pipelines.src.user_directory import UserDirectory
from pipelines.src.valves import FunctionUserValves, FunctionValves
from shared.domain.capture import Answer, generation_event, turn_event
from shared.domain.identity import is_generation_id
from shared.domain.inlet import read_inlet
from shared.domain.openwebui import (
    KEY_HASH,
    LEDGER_KEY,
    answer_message,
    chunk_finish_reason,
    generation_chunk,
    has_openrouter_usage,
    host_id,
    is_openrouter_chunk,
    is_response_event,
    is_running_total,
    json_object,
    read_model_record,
    short_text,
)

# Whoever is signed in may post any body here, usage included: it books nothing.
_REPLAY_PATH = "/api/chat/completed"


def function_spool_dir() -> Path:
    """Return the folder beside Open WebUI's own data."""
    data_dir = getattr(sys.modules.get("open_webui.env"), "DATA_DIR", None)
    return Path(data_dir or os.environ.get("DATA_DIR") or "data") / "usage"


class Filter:
    """Books every OpenRouter generation of this Open WebUI, streamed or not, exactly.

    No hook ever raises or changes the chat: `stream` only adds the ids it booked to the usage
    object, so that a Pipelines filter beside it books nothing twice.
    """

    Valves = FunctionValves
    UserValves = FunctionUserValves

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._keys = ConnectionKeys()
        self._users = UserDirectory()
        self._recorder = Recorder("function", function_spool_dir)

    async def stream(
        self, event: dict[str, Any], __metadata__: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Note a generation on its first chunk, book it on the chunk that has its usage.

        Runs for every chunk on the event loop of the host: a chunk without usage costs
        microseconds.
        """
        try:
            if not isinstance(event, dict) or not isinstance(__metadata__, dict):
                return event
            state = __metadata__.get(LEDGER_KEY)
            if (
                isinstance(state, dict)
                and state.get("id") == event.get("id") is not None
                and not event.get("usage")
            ):
                self._recorder.saw(state["id"])
                if finish := chunk_finish_reason(event):
                    state["finish"] = finish
            else:
                await self._take_chunk(event, __metadata__)
        except Exception as error:  # noqa: BLE001 a raising stream hook empties the answer
            self._recorder.counters.complain("failed_stream", type(error).__name__)
        return event

    async def outlet(
        self,
        body: dict[str, Any],
        __metadata__: dict[str, Any] | None = None,
        __user__: dict[str, Any] | None = None,
        __request__: Any = None,
        __event_emitter__: EventEmitter | None = None,
    ) -> dict[str, Any]:
        """Book an answer that was not streamed, and what a stream left as a running total.

        Shows what the answer cost to a user who wants to see it.
        """
        try:
            if getattr(getattr(__request__, "url", None), "path", "") == _REPLAY_PATH:
                self._recorder.counters.count("ignored_replay")
            elif isinstance(__metadata__, dict):
                await self._take_answer(json_object(body), __metadata__)
                self._put_name(__user__)
                _show_cost(__metadata__, __user__, __event_emitter__)
        except Exception as error:  # noqa: BLE001 the answer must not depend on its bookkeeping
            self._recorder.counters.complain("failed_outlet", type(error).__name__)
        return body

    async def _take_chunk(self, event: dict[str, Any], metadata: dict[str, Any]) -> None:
        chunk = generation_chunk(event)
        if not _is_openrouter_generation(chunk, metadata):
            self._saw_part(event, metadata)
            return
        state = await self._state(metadata)
        if state["id"] != chunk["id"]:
            await self._put_total(state, metadata)
            state["id"], state["finish"] = chunk["id"], None
            if not chunk.get("usage") or is_running_total(chunk):
                state["begun"] = without_content(chunk)
                self._recorder.note_open(self.valves, partial(generation_event, chunk, metadata))
        usage = chunk.get("usage")
        if not isinstance(usage, dict) or not usage:
            return
        if is_running_total(chunk):
            state["total"] = without_content(chunk)
            self._recorder.follow(self.valves).open.grew(state["total"], metadata)
            usage[LEDGER_KEY] = [*state["booked"], chunk["id"]]
            return
        state["total"] = None
        await self._put_generation(chunk, state, metadata)
        if state["booked"]:
            usage[LEDGER_KEY] = list(state["booked"])

    def _saw_part(self, event: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Keep a generation open whose events do not name it, as in the Responses API."""
        state = json_object(metadata.get(LEDGER_KEY))
        if state.get("id") and is_response_event(event):
            self._recorder.saw(state["id"])

    async def _state(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return the state of an answer, which knows from its beginning on who pays."""
        state = answer_state(metadata)
        if state[KEY_HASH] is None:
            state[KEY_HASH] = await self._keys.hash_of(metadata)
        return state

    async def _put_generation(
        self, chunk: dict[str, Any], state: dict[str, Any], metadata: dict[str, Any]
    ) -> None:
        """Book a generation; only what the spool took is left as booked for others to see."""
        state["begun"] = None
        draft = partial(generation_event, chunk, metadata, finish_reason=state["finish"])
        leave_booked(state, await self._recorder.book(self.valves, draft))

    async def _put_total(self, state: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Book the last running total of a generation that has ended."""
        total, state["total"] = state["total"], None
        if total:
            await self._put_generation(total, state, metadata)

    async def _take_answer(self, body: dict[str, Any], metadata: dict[str, Any]) -> None:
        if metadata.get(LEDGER_KEY):
            state = answer_state(metadata)
            await self._put_total(state, metadata)
            self._name_answer(state, body, metadata)
            return
        message = answer_message(body)
        usage = json_object(message.get("usage"))
        settings = self._recorder.follow(self.valves).settings
        inlet = read_inlet(
            {**metadata, "message_id": body.get("id")},
            short_text(body.get("model")),
            short_text(metadata.get("user_id")),
            self._recorder.clock.now(),
            lambda _: None,
            settings.extra_connections,
        )
        is_metered = inlet.billing in ("openrouter", "named") or has_openrouter_usage(usage)
        if usage and is_metered:
            state = await self._state(metadata)
            answer = Answer(
                source="function",
                user=inlet.user,
                body=body,
                message=message,
                api_key_hash=state[KEY_HASH],
            )
            draft = partial(turn_event, answer, inlet)
            leave_booked(state, await self._recorder.book(self.valves, draft))

    def _name_answer(
        self, state: dict[str, Any], body: dict[str, Any], metadata: dict[str, Any]
    ) -> None:
        """Give a generation that ended without usage the name that its answer has only now.

        A Pipelines outlet of the API, which sees no generation, lists the answer under this name.
        """
        begun = state["begun"]
        if begun and not metadata.get("message_id"):
            named = {**metadata, "message_id": host_id(body.get("id"))}
            self._recorder.note_open(self.valves, partial(generation_event, begun, named))

    def _put_name(self, user: object) -> None:
        """Hand the name of a user to the spool; it is no money, so nobody waits for it."""
        recording = self._recorder.follow(self.valves)
        if recording.settings.user_directory:
            row = self._users.row(user, self._recorder.clock.now())
            if row is not None:
                recording.spool.put([row])


def _is_openrouter_generation(chunk: dict[str, Any], metadata: dict[str, Any]) -> bool:
    if is_openrouter_chunk(chunk):
        return True
    if not is_generation_id(chunk.get("id")):
        return False
    record = read_model_record(metadata.get("model"))
    return record is not None and record.is_openrouter


def _show_cost(metadata: dict[str, Any], user: object, emit: EventEmitter | None) -> None:
    """Show the cost of an answer to a user whose own valve asks for it."""
    booked = json_object(metadata.get(LEDGER_KEY)).get("booked")
    wants = getattr(json_object(user).get("valves"), "show_cost", False)
    if emit is not None and booked and wants is True:
        show_status(emit, cost_line(booked.values()))
