"""Answers that have begun inside Open WebUI and of which no hook has shown anything yet."""

import secrets
from dataclasses import replace
from typing import Any

from pipelines.src.dedup_keys import part_began
from pipelines.src.function.answer_state import WAITS_FOR, answer_state
from pipelines.src.in_flight import InletMemory
from shared.capture.inlet import Inlet
from shared.capture.openwebui import json_object, openwebui_id


class BegunAnswers:
    """Waits for the first word or the outlet of every answer; a stopped answer may have neither."""

    def __init__(self) -> None:
        self.memory = InletMemory()

    def begin(self, body: dict[str, Any], metadata: dict[str, Any], inlet: Inlet) -> list[Inlet]:
        """Wait for an answer; return what it ends the wait for: an earlier part of its message.

        An answer of the API has no message and gets a name by chance. A second copy of this file
        leaves the wait to the first.
        """
        state = answer_state(metadata)
        if state[WAITS_FOR] is not None:
            return []
        if inlet.is_continued:
            inlet = replace(inlet, at=part_began(json_object(body.get("metadata")), inlet.at))
        state[WAITS_FOR] = inlet.message_id or f"api-{secrets.token_hex(12)}"
        return self.memory.remember(replace(inlet, message_id=state[WAITS_FOR]))

    def shown(self, metadata: dict[str, Any]) -> Inlet | None:
        """Wait no longer, something of the answer is seen; return how it began."""
        name = openwebui_id(answer_state(metadata)[WAITS_FOR])
        return self.memory.answered(openwebui_id(metadata.get("chat_id")), name) if name else None
