"""The Pipelines filter: background tasks, merged usage of answers, identities for OpenRouter."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.src.dedup_keys import continuation_began, task_id
from pipelines.src.in_flight import InletMemory, expired_rows, unmetered_rows
from pipelines.src.pipeline.state_file import load_state, save_state
from pipelines.src.recorder import Recorder
from pipelines.src.settings import PluginSettings
from pipelines.src.spool_session import PluginStatus, SpoolSession
from pipelines.src.user_directory import UserDirectory
from pipelines.src.valves import PipelineValves
from shared.capture.events import CapturedAnswer, is_merged_wrongly, turn_event
from shared.capture.inlet import Inlet, is_fresh, read_inlet
from shared.capture.openwebui import (
    answer_message,
    has_openrouter_usage,
    host_user_id,
    json_object,
    ledger_ids,
    openwebui_id,
    read_model_record,
    short_text,
)
from shared.capture.usage import parse_usage
from shared.core.rows import Row

# The delivery may finish a write and the spool a commit, five seconds each.
_CLOSE_SECONDS = 11.0


def pipeline_spool_dir() -> Path:
    """Return the folder that the Pipelines server keeps for this plugin."""
    return Path(os.environ.get("PIPELINES_DIR") or "./pipelines") / "openrouter_usage_filter"


class Pipeline:
    """Books answers from their merged usage, and lists every background task as unmetered.

    No hook ever raises. `inlet` adds identities to requests that go to OpenRouter and nothing else;
    `outlet` changes nothing.
    """

    def __init__(self) -> None:
        self.type = "filter"
        self.name = "OpenRouter usage ledger"
        self.valves = PipelineValves()
        self._memory = InletMemory()
        self._users = UserDirectory()
        self._recorder = Recorder(
            "pipeline", pipeline_spool_dir, partial(expired_rows, self._memory)
        )

    def status(self) -> PluginStatus:
        """Return counters, queue and delivery; opens the spool if no hook has."""
        return self._recorder.session_for(self.valves).status()

    async def on_startup(self) -> None:
        """Start the session, and wait for the answers that the plugin before was waiting for."""
        await self.on_valves_updated()
        try:
            load_state(self._memory, self._state_path())
        except Exception as error:  # noqa: BLE001 the server would not start
            self._recorder.counters.warn_throttled("failed_takeover", type(error).__name__)

    async def on_valves_updated(self) -> None:
        """Apply the new valves at once."""
        try:
            self._recorder.session_for(self.valves)
        except Exception as error:  # noqa: BLE001 the server would answer 500
            self._recorder.counters.warn_throttled("failed_start", type(error).__name__)

    async def on_shutdown(self) -> None:
        """Save what is known of answers in flight, and leave no thread behind."""
        try:
            save_state(self._memory, self._state_path())
            session = self._recorder.stop()
            if session is not None:
                await session.closed(_CLOSE_SECONDS)
        except Exception as error:  # noqa: BLE001 the other plugins must still be shut down
            self._recorder.counters.warn_throttled("failed_shutdown", type(error).__name__)
            self._recorder.stop()

    async def inlet(
        self, body: dict[str, Any], user: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Remember an answer's request, list a background task, add identities for OpenRouter."""
        try:
            if isinstance(body, dict):
                with self._recorder.session_for(self.valves) as session:
                    await self._take_request(session, body, user)
        except Exception as error:  # noqa: BLE001 a raising inlet kills the chat
            self._recorder.counters.warn_throttled("failed_inlet", type(error).__name__)
        return body

    async def outlet(
        self, body: dict[str, Any], user: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Book the answer this outlet is about, unless a Function filter has booked it."""
        try:
            if message := answer_message(json_object(body)):
                with self._recorder.session_for(self.valves) as session:
                    await self._take_answer(session, body, message, user)
            else:
                self._recorder.counters.count("ignored_outlet")
        except Exception as error:  # noqa: BLE001 the answer must not depend on its bookkeeping
            self._recorder.counters.warn_throttled("failed_outlet", type(error).__name__)
        return body

    def _state_path(self) -> Path:
        # The server names the module after the file: a second copy of it has its own memory.
        name = f"{type(self).__module__}.inlets.json"
        return self._recorder.session_for(self.valves).settings.spool_dir / name

    async def _take_request(
        self, session: SpoolSession, body: dict[str, Any], user: object
    ) -> None:
        metadata, settings = json_object(body.get("metadata")), session.settings
        record = read_model_record(metadata.get("model"))
        if record is not None:
            self._memory.learn(record)
        inlet = self._read_inlet(session, metadata, body, user)
        if inlet.is_continued:
            inlet = replace(inlet, at=continuation_began(metadata, inlet.at))
        if inlet.billing == "openrouter":
            _add_identities(body, inlet, settings)
        rows: list[Row] = []
        if inlet.task != "chat":
            rows += unmetered_rows([inlet], settings, task_id(metadata))
        elif inlet.chat_id and inlet.message_id:
            rows += unmetered_rows(self._memory.remember(inlet), settings)
        person = self._users.row(user, inlet.at) if settings.user_directory else None
        if person is not None:
            rows.append(person)
        await session.put(rows)

    async def _take_answer(
        self, session: SpoolSession, body: dict[str, Any], message: Mapping[str, Any], user: object
    ) -> None:
        ids = {
            "chat_id": openwebui_id(body.get("chat_id")),
            "message_id": openwebui_id(body.get("id")),
        }
        remembered = self._memory.complete(**ids)
        inlet = remembered or self._read_inlet(session, ids, body, user)
        usage = json_object(message.get("usage"))
        is_metered = inlet.billing in ("openrouter", "named")
        if self._is_booked(inlet, ledger_ids(usage)):
            self._recorder.counters.count("booked_by_function")
        elif usage and (is_metered or has_openrouter_usage(usage)):
            if remembered is None and is_merged_wrongly(message):
                # It may well be continued: then the name of its beginning is taken.
                inlet = replace(inlet, is_continued=bool(inlet.chat_id))
            elif inlet.is_continued:
                total_tokens = parse_usage(usage, merged=True).total_tokens
                inlet = self._memory.disambiguate(inlet, total_tokens)
            answer = CapturedAnswer(
                source="pipeline", user=host_user_id(user), body=body, message=message
            )
            await session.book(partial(turn_event, answer, inlet))
        elif not usage and (remembered or is_metered):
            await session.put(unmetered_rows([inlet], session.settings))

    def _is_booked(self, inlet: Inlet, generation_ids: list[str]) -> bool:
        """Return whether a Function booked this answer, not only what it continues."""
        if not generation_ids:
            return False
        has_new = self._memory.has_new_ids(inlet, generation_ids)
        if not inlet.is_continued:
            return True
        return is_fresh(generation_ids, inlet) if has_new is None else has_new

    def _read_inlet(
        self, session: SpoolSession, metadata: dict[str, Any], body: dict[str, Any], user: object
    ) -> Inlet:
        return read_inlet(
            metadata,
            short_text(body.get("model")),
            host_user_id(user),
            session.clock.now(),
            self._memory.record,
            session.settings.extra_connections,
        )


def _add_identities(body: dict[str, Any], inlet: Inlet, settings: PluginSettings) -> None:
    """Name user, chat and task to OpenRouter, never over what the caller sent."""
    if settings.add_user and inlet.user:
        body.setdefault("user", inlet.user)
    if settings.add_session_id and inlet.chat_id:
        body.setdefault("session_id", inlet.chat_id)
    if settings.add_trace:
        trace = {
            "owui_chat_id": inlet.chat_id,
            "owui_message_id": inlet.message_id,
            "owui_task": inlet.task,
        }
        body.setdefault("trace", {name: value for name, value in trace.items() if value})
