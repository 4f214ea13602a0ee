"""The Function filter: what Open WebUI runs inside itself, one event per streamed generation."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.src.cost_line import EventEmitter, cost_line, show_status
from pipelines.src.recorder import Recorder
from pipelines.src.user_directory import UserDirectory
from pipelines.src.valves import FunctionUserValves, FunctionValves
from shared.domain.capture import Answer, generation_event, turn_event
from shared.domain.event import UsageEvent
from shared.domain.identity import is_generation_id
from shared.domain.inlet import read_inlet
from shared.domain.money import format_usd
from shared.domain.openwebui import (
    LEDGER_IDS_MAX,
    LEDGER_KEY,
    answer_message,
    chunk_finish_reason,
    has_openrouter_usage,
    is_openrouter_chunk,
    is_running_total,
    json_object,
    read_model_record,
    short_text,
)

# Whoever is signed in may post any body here, usage included: it books nothing.
_REPLAY_PATH = "/api/chat/completed"
# id: the generation whose chunks come now; total: its running total; finish: why it ended;
# booked: cost and tokens by request_id.
_NEW_STATE: dict[str, Any] = {"id": None, "total": None, "finish": None, "booked": {}}


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

    async def _take_chunk(self, chunk: dict[str, Any], metadata: dict[str, Any]) -> None:
        if not _is_openrouter_generation(chunk, metadata):
            return
        state = _answer_state(metadata)
        if state["id"] != chunk["id"]:
            await self._put_total(state, metadata)
            state["id"], state["finish"] = chunk["id"], None
            if not chunk.get("usage") or is_running_total(chunk):
                self._recorder.note_open(self.valves, partial(generation_event, chunk, metadata))
        usage = chunk.get("usage")
        if not isinstance(usage, dict) or not usage:
            return
        if is_running_total(chunk):
            state["total"] = _without_content(chunk)
            self._recorder.follow(self.valves).open.grew(state["total"], metadata)
            usage[LEDGER_KEY] = [*state["booked"], chunk["id"]]
            return
        state["total"] = None
        await self._put_generation(chunk, state, metadata)
        if state["booked"]:
            usage[LEDGER_KEY] = list(state["booked"])

    async def _put_generation(
        self, chunk: dict[str, Any], state: dict[str, Any], metadata: dict[str, Any]
    ) -> None:
        """Book a generation; only what the spool took is left as booked for others to see."""
        draft = partial(generation_event, chunk, metadata, finish_reason=state["finish"])
        _leave_booked(state, await self._recorder.book(self.valves, draft))

    async def _put_total(self, state: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Book the last running total of a generation that has ended."""
        total, state["total"] = state["total"], None
        if total:
            await self._put_generation(total, state, metadata)

    async def _take_answer(self, body: dict[str, Any], metadata: dict[str, Any]) -> None:
        if metadata.get(LEDGER_KEY):
            await self._put_total(_answer_state(metadata), metadata)
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
            answer = Answer(source="function", user=inlet.user, body=body, message=message)
            draft = partial(turn_event, answer, inlet)
            _leave_booked(_answer_state(metadata), await self._recorder.book(self.valves, draft))

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


def _answer_state(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an answer, plain JSON on the one dict that all its hooks share.

    Open WebUI posts this dict to Pipelines with every background task.
    """
    state: dict[str, Any] = metadata.get(LEDGER_KEY) or {}
    if not _is_answer_state(state):
        state = metadata[LEDGER_KEY] = dict(_NEW_STATE, booked={})
    return state


def _is_answer_state(state: object) -> bool:
    return (
        isinstance(state, dict)
        and isinstance(state.get("booked"), dict)
        and isinstance(state.get("total", ""), dict | None)
        and "finish" in state
    )


def _leave_booked(state: dict[str, Any], event: UsageEvent | None) -> None:
    """Leave what the spool took for the other hooks of the answer to see, and nothing else."""
    if event is None:
        return
    booked = state["booked"]
    cost = None if event.cost_usd is None else format_usd(event.cost_usd)
    booked[event.request_id] = [cost, event.total_tokens]
    while len(booked) > LEDGER_IDS_MAX:
        del booked[next(iter(booked))]


def _show_cost(metadata: dict[str, Any], user: object, emit: EventEmitter | None) -> None:
    """Show the cost of an answer to a user whose own valve asks for it."""
    booked = json_object(metadata.get(LEDGER_KEY)).get("booked")
    wants = getattr(json_object(user).get("valves"), "show_cost", False)
    if emit is not None and booked and wants is True:
        show_status(emit, cost_line(booked.values()))


def _without_content(chunk: dict[str, Any]) -> dict[str, Any]:
    """Return what a running total needs of its chunk, without a word of the answer."""
    return {name: chunk.get(name) for name in ("id", "model", "provider", "service_tier")} | {
        "usage": dict(chunk["usage"])
    }
