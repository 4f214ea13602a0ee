"""The Function filter: what Open WebUI runs inside itself, one event per streamed generation."""

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.src.begun_answers import BegunAnswers
from pipelines.src.function.answer_state import CONNECTION, answer_state, leave_booked
from pipelines.src.function.cost_line import EventEmitter, show_cost
from pipelines.src.function.host import connection_index
from pipelines.src.function.host_models import host_model_record
from pipelines.src.function.stream import StreamCapture, StreamedAnswer
from pipelines.src.recorder import Recorder
from pipelines.src.silent_answers import silent_rows, unmetered_rows
from pipelines.src.user_directory import UserDirectory
from pipelines.src.valves import FunctionUserValves, FunctionValves
from shared.capture.events import CapturedAnswer, turn_event
from shared.capture.inlet import Inlet, read_inlet
from shared.capture.openwebui import (
    KEY_HASH,
    LEDGER_KEY,
    answer_message,
    chunk_finish_reason,
    has_openrouter_usage,
    json_object,
    short_text,
)
from shared.capture.usage import parse_usage

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
        self._begun = BegunAnswers()
        self._users = UserDirectory()
        self._recorder = Recorder(
            "function", function_spool_dir, partial(silent_rows, self._begun.memory)
        )
        self._streams = StreamCapture(self._recorder)

    async def inlet(
        self,
        body: dict[str, Any],
        __metadata__: dict[str, Any] | None = None,
        __model__: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Remember that an answer begins: one that is never shown was made all the same."""
        try:
            if isinstance(body, dict) and isinstance(__metadata__, dict):
                self._take_request(body, __metadata__, _of_model(__metadata__, __model__))
        except Exception as error:  # noqa: BLE001 a raising inlet kills the chat
            self._recorder.counters.complain("failed_inlet", type(error).__name__)
        return body

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
                and isinstance(event.get("id"), str)
                and state.get("id") == event["id"]
                and not event.get("usage")
            ):
                self._recorder.saw(state["id"])
                if finish := chunk_finish_reason(event):
                    state["finish"] = finish
            else:
                await self._take_event(event, __metadata__)
        except Exception as error:  # noqa: BLE001 a raising stream hook empties the answer
            self._recorder.counters.complain("failed_stream", type(error).__name__)
        return event

    async def outlet(
        self,
        body: dict[str, Any],
        __metadata__: dict[str, Any] | None = None,
        __model__: dict[str, Any] | None = None,
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
                told = _of_model(__metadata__, __model__)
                await self._take_answer(json_object(body), __metadata__, told)
                self._put_name(__user__)
                show_cost(__metadata__, __user__, __event_emitter__)
        except Exception as error:  # noqa: BLE001 the answer must not depend on its bookkeeping
            self._recorder.counters.complain("failed_outlet", type(error).__name__)
        return body

    def _take_request(
        self, body: dict[str, Any], metadata: dict[str, Any], told: dict[str, Any]
    ) -> None:
        answer_state(metadata)[CONNECTION] = connection_index(told)
        inlet = self._read_inlet(told, body.get("model"))
        recording = self._recorder.follow(self.valves)
        driven_out = self._begun.begin(body, metadata, inlet)
        if rows := unmetered_rows(driven_out, recording.settings):
            recording.spool.put(rows)

    def _read_inlet(self, metadata: dict[str, Any], model: object) -> Inlet:
        return read_inlet(
            metadata,
            short_text(model),
            short_text(metadata.get("user_id")),
            self._recorder.clock.now(),
            host_model_record,
            self._recorder.follow(self.valves).settings.extra_connections,
        )

    async def _take_event(self, event: dict[str, Any], metadata: dict[str, Any]) -> None:
        if await self._streams.take(self.valves, event, metadata):
            self._begun.shown(metadata)

    async def _take_answer(
        self, body: dict[str, Any], metadata: dict[str, Any], told: dict[str, Any]
    ) -> None:
        state, begun = answer_state(metadata), self._begun.shown(metadata)
        if state["id"] is not None or state["booked"]:
            streamed = StreamedAnswer(self.valves, state, metadata)
            await self._streams.put_total(streamed)
            self._streams.name_answer(streamed, body)
            return
        message = answer_message(body)
        usage = json_object(message.get("usage"))
        inlet = self._read_inlet({**told, "message_id": body.get("id")}, body.get("model"))
        if begun is not None:
            inlet = replace(inlet, at=begun.at)
        is_metered = inlet.billing in ("openrouter", "named") or has_openrouter_usage(usage)
        if usage and is_metered:
            if begun is not None and inlet.is_continued:
                total_tokens = parse_usage(usage, merged=True).total_tokens
                inlet = self._begun.memory.disambiguate(inlet, total_tokens)
            state = await self._streams.state(metadata)
            answer = CapturedAnswer(
                source="function",
                user=inlet.user,
                body=body,
                message=message,
                api_key_hash=state[KEY_HASH],
            )
            draft = partial(turn_event, answer, inlet)
            leave_booked(state, await self._recorder.book(self.valves, draft))
        elif not usage and (begun or is_metered):
            rows = unmetered_rows([inlet], self._recorder.follow(self.valves).settings)
            await self._recorder.put(self.valves, rows)

    def _put_name(self, user: object) -> None:
        """Hand the name of a user to the spool; it is no money, so nobody waits for it."""
        recording = self._recorder.follow(self.valves)
        if recording.settings.user_directory:
            row = self._users.row(user, self._recorder.clock.now())
            if row is not None:
                recording.spool.put([row])


def _of_model(metadata: dict[str, Any], model: object) -> dict[str, Any]:
    """Return the metadata with the record of the model of this very answer.

    Of models side by side the host leaves the first one's record in the metadata of all.
    """
    return {**metadata, "model": model} if json_object(model) else metadata
