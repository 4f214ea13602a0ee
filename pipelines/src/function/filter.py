"""The Function filter, inside Open WebUI: one event per streamed generation."""

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.src.function.answer_state import CONNECTION, answer_state, leave_booked
from pipelines.src.function.cost_line import EventEmitter, show_cost
from pipelines.src.function.host import connection_index, host_model_record
from pipelines.src.function.stream import StreamCapture, StreamedAnswer
from pipelines.src.in_flight import AnswersInFlight, expired_rows, unmetered_rows
from pipelines.src.recorder import Recorder
from pipelines.src.spool_session import PluginStatus, SpoolSession
from pipelines.src.user_directory import UserDirectory
from pipelines.src.valves import FunctionUserValves, FunctionValves
from shared.capture.events import CapturedAnswer, turn_event
from shared.capture.inlet import Inlet, read_inlet
from shared.capture.openwebui import (
    KEY_HASH,
    LEDGER_KEY,
    answer_message,
    chunk_finish_reason,
    generation_chunk,
    has_openrouter_usage,
    is_openrouter_generation,
    is_response_event,
    json_object,
    short_text,
)
from shared.capture.usage import parse_usage

# Any signed-in user may post any body here, usage included: it books nothing.
_REPLAY_PATH = "/api/chat/completed"


def function_spool_dir() -> Path:
    """Return a folder beside Open WebUI's own data."""
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
        self._in_flight = AnswersInFlight()
        self._users = UserDirectory()
        self._recorder = Recorder(
            "function", function_spool_dir, partial(expired_rows, self._in_flight.memory)
        )
        self._streams = StreamCapture()

    def status(self) -> PluginStatus:
        """Return counters, queue and delivery; opens the spool if no hook has."""
        return self._recorder.session_for(self.valves).status()

    async def inlet(
        self,
        body: dict[str, Any],
        __metadata__: dict[str, Any] | None = None,
        __model__: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Remember that an answer begins: it is billed even if no hook ever shows it."""
        try:
            if isinstance(body, dict) and isinstance(__metadata__, dict):
                session = self._recorder.session_for(self.valves)
                self._take_request(session, body, __metadata__, __model__)
        except Exception as error:  # noqa: BLE001 a raising inlet kills the chat
            self._recorder.counters.warn_throttled("failed_inlet", type(error).__name__)
        return body

    async def stream(
        self, event: dict[str, Any], __metadata__: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Track a generation from its first chunk, book it on the chunk that has its usage.

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
            self._recorder.counters.warn_throttled("failed_stream", type(error).__name__)
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
                with self._recorder.session_for(self.valves) as session:
                    await self._take_answer(session, json_object(body), __metadata__, __model__)
                    self._put_name(session, __user__)
                show_cost(__metadata__, __user__, __event_emitter__)
        except Exception as error:  # noqa: BLE001 the answer must not depend on its bookkeeping
            self._recorder.counters.warn_throttled("failed_outlet", type(error).__name__)
        return body

    def _take_request(
        self, session: SpoolSession, body: dict[str, Any], metadata: dict[str, Any], model: object
    ) -> None:
        own = _with_own_model(metadata, model)
        answer_state(metadata)[CONNECTION] = connection_index(own)
        evicted = self._in_flight.begin(body, metadata, _read_inlet(session, own, body))
        if rows := unmetered_rows(evicted, session.settings):
            session.spool.put(rows)

    async def _take_event(self, event: dict[str, Any], metadata: dict[str, Any]) -> None:
        chunk = generation_chunk(event)
        if is_openrouter_generation(chunk, metadata):
            with self._recorder.session_for(self.valves) as session:
                await self._streams.take(session, chunk, metadata)
            self._in_flight.complete(metadata)
        elif is_response_event(event):
            # Most events of the Responses API do not name their generation.
            generation_id = json_object(metadata.get(LEDGER_KEY)).get("id")
            if isinstance(generation_id, str):
                self._recorder.saw(generation_id)

    async def _take_answer(
        self, session: SpoolSession, body: dict[str, Any], metadata: dict[str, Any], model: object
    ) -> None:
        state, begun = answer_state(metadata), self._in_flight.complete(metadata)
        if state["id"] is not None or state["booked"]:
            streamed = StreamedAnswer(session, state, metadata)
            await self._streams.put_total(streamed)
            self._streams.name_answer(streamed, body)
            return
        usage = json_object(answer_message(body).get("usage"))
        own = {**_with_own_model(metadata, model), "message_id": body.get("id")}
        inlet = _read_inlet(session, own, body)
        if begun is not None:
            inlet = replace(inlet, at=begun.at)
        is_metered = inlet.billing in ("openrouter", "named") or has_openrouter_usage(usage)
        if usage and is_metered:
            if begun is not None and inlet.is_continued:
                total_tokens = parse_usage(usage, merged=True).total_tokens
                inlet = self._in_flight.memory.disambiguate(inlet, total_tokens)
            await self._book_answer(session, body, metadata, inlet)
        elif not usage and (begun or is_metered):
            await session.put(unmetered_rows([inlet], session.settings))

    async def _book_answer(
        self, session: SpoolSession, body: dict[str, Any], metadata: dict[str, Any], inlet: Inlet
    ) -> None:
        state = await self._streams.state(metadata)
        answer = CapturedAnswer(
            source="function",
            user=inlet.user,
            body=body,
            message=answer_message(body),
            api_key_hash=state[KEY_HASH],
        )
        leave_booked(state, await session.book(partial(turn_event, answer, inlet)))

    def _put_name(self, session: SpoolSession, user: object) -> None:
        """Hand the name of a user to the spool without waiting: no money depends on it."""
        if session.settings.user_directory:
            row = self._users.row(user, session.clock.now())
            if row is not None:
                session.spool.put([row])


def _read_inlet(session: SpoolSession, metadata: dict[str, Any], body: dict[str, Any]) -> Inlet:
    return read_inlet(
        metadata,
        short_text(body.get("model")),
        short_text(metadata.get("user_id")),
        session.clock.now(),
        host_model_record,
        session.settings.extra_connections,
    )


def _with_own_model(metadata: dict[str, Any], model: object) -> dict[str, Any]:
    """Return the metadata with the model record of this very answer.

    When several models answer side by side, the host leaves the first one's record in all.
    """
    return {**metadata, "model": model} if json_object(model) else metadata
