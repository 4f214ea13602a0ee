"""Bodies that real hosts sent, per scenario, beside what the mock OpenRouter billed."""

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "captures"
SCENARIOS = sorted(path.name.split(".")[0] for path in FOLDER.glob("*.ledger.json"))
# These four are one conversation: an answer, another one in its place, and that one continued.
CONVERSATION = ("b_ui_second_turn", "c_ui_regenerate", "d_ui_continue", "d2_ui_continue_again")
# Captures keep only some chunks of a stream; none of these generations' chunks was kept.
NOT_CAPTURED = {
    "gen-1795433536-uoYMmu1iebEgsAhjGZBO": "e_stop_in_tool_loop, third generation, stopped",
    "gen-1795433224-qcn57NOrPrvh54vwwYvj": "i_saved_tools, fourth generation",
}
TASKS = {
    "task:title": "title_generation",
    "task:tags": "tags_generation",
    "task:follow_ups": "follow_up_generation",
}


def read(scenario: str, part: str) -> list[dict[str, Any]]:
    """Return one part of a scenario, such as `function.stream`; empty where the hook never ran."""
    path = FOLDER / f"{scenario}.{part}.json"
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    if scenario == "b_ui_second_turn":
        # Placeholders are counted per scenario: without this, the regenerated answer of the next
        # one would have the message id of the answer whose place it takes.
        found = json.loads(json.dumps(found).replace('"uuid-1"', '"uuid-1-of-b"'))
    return found


def ledger(scenario: str, kind: str = "chat") -> list[dict[str, Any]]:
    """Return what OpenRouter billed: chats, or with `task:` the background tasks."""
    return [
        row
        for row in read(scenario, "ledger")
        if row["connection"] == "openrouter" and row["kind"].startswith(kind)
    ]


def billed(scenario: str) -> Decimal:
    """Return the bill of the chats of a scenario."""
    return sum((Decimal(row["cost"]) for row in ledger(scenario)), Decimal(0))


class Answers:
    """Replays the Function hooks: one metadata dict per answer, as the host passes it."""

    def __init__(self, scenario: str) -> None:
        self.scenario = scenario
        self._by_message: dict[object, dict[str, Any]] = {}
        self._whole: dict[str, Any] = next(
            (
                call["extra"]["__metadata__"]
                for part in ("function.stream", "function.outlet")
                for call in read(scenario, part)
                if "user_id" in call["extra"]["__metadata__"]
            ),
            {},
        )

    def chunks(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the kept chunks with the metadata of their answer."""
        calls = read(self.scenario, "function.stream")
        return [(call["body"], self._metadata(call)) for call in calls]

    def outlets(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the outlet bodies with the metadata of their answer."""
        calls = read(self.scenario, "function.outlet")
        return [(call["body"], self._metadata(call)) for call in calls]

    def _metadata(self, call: dict[str, Any]) -> dict[str, Any]:
        # A capture shows the metadata whole the first time only.
        own = call["extra"]["__metadata__"]
        key = own.get("message_id")
        if key not in self._by_message:
            self._by_message[key] = copy.deepcopy(self._whole) | own
        return self._by_message[key]
