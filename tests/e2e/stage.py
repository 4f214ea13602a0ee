"""An installation with the plugin on it, ready to play scenarios, each by a person of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from demo.installation import PASSWORD, PIPELINES, PLUGIN, PROXY_TAG, Installation
from demo.plays.open_webui_admin import Admin
from demo.processes import wait_for
from demo.sidecar import STORE_FILE
from tests.e2e.account import Account, Row, settle_account
from tests.e2e.books import Books
from tests.e2e.visitor import MODEL, TOOL_ID, Visitor

FUNCTION_ID = "usage_ledger"
QUIET_SECONDS = 2
ANSWER_WAIT_SECONDS = 3
TOOL_SOURCE = '''
class Tools:
    def mock_clock(self) -> str:
        """Tell the time."""
        return "noon"
'''
_PEOPLE = ("Alice", "Bob", "Charlie")
_PIPELINE_VALVES = {
    "answer_wait_seconds": ANSWER_WAIT_SECONDS,
    "add_session_id": True,
    "extra_connections": [PROXY_TAG],
}
_FUNCTION_VALVES = {
    "answer_wait_seconds": ANSWER_WAIT_SECONDS,
    "quiet_seconds": QUIET_SECONDS,
    "extra_connections": [PROXY_TAG],
}
_BOOKED_WITHIN_SECONDS = 15.0


class Stage:
    """Open WebUI, Pipelines and the mock, and who is installed there right now."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.books = Books(installation.spool_folder, installation.folder / STORE_FILE)
        self._numbers = count(1)
        self._visitors: list[Visitor] = []
        self._has_function = self._is_function_on = self._has_pipeline = False

    @property
    def admin(self) -> Admin:
        """The admin pages."""
        return self.installation.admin

    def furnish(self) -> None:
        """Create the preset, the arena and the tool that scenarios ask for."""
        self.admin.create_preset("house-preset", "House preset", MODEL)
        self.admin.create_arena("house-arena", "House arena", [MODEL])
        self.admin.create_tool(TOOL_ID, TOOL_SOURCE)

    def install(self, *, function: bool, pipeline: bool) -> None:
        """Install or remove the plugin so that it stands in exactly these hosts."""
        if function and not self._has_function:
            self.admin.create_function(FUNCTION_ID, PLUGIN, _FUNCTION_VALVES)
            self._has_function = self._is_function_on = True
        if function != self._is_function_on:
            self.admin.toggle_function(FUNCTION_ID)
            self._is_function_on = function
        if pipeline and not self._has_pipeline:
            self.admin.upload_pipeline(PIPELINES, PLUGIN)
            self.admin.set_pipeline_valves(PIPELINES, PLUGIN.stem, _PIPELINE_VALVES)
        if self._has_pipeline and not pipeline:
            self.admin.delete_pipeline(PIPELINES, PLUGIN.stem)
        self._has_pipeline = pipeline

    def upload_again(self) -> None:
        """Upload the same file once more: the server loads all its plugins anew."""
        self.admin.upload_pipeline(PIPELINES, PLUGIN)
        self.admin.set_pipeline_valves(PIPELINES, PLUGIN.stem, _PIPELINE_VALVES)

    def save_function_again(self) -> None:
        """Save the Function with a changed comment: the host loads it as a new module."""
        source = PLUGIN.read_text() + f"\n# saved again, {next(self._numbers)}\n"
        self.admin.update_function(FUNCTION_ID, source)

    def visitor(self) -> Visitor:
        """Let somebody new sign in."""
        number = next(self._numbers)
        name = _PEOPLE[number % len(_PEOPLE)]
        person = self.admin.add_user(name, f"{name.lower()}-{number}@example.org", PASSWORD)
        visitor = Visitor(self.installation.open_webui.url, person)
        self._visitors.append(visitor)
        return visitor

    def rows_of(self, user_id: str) -> list[Row]:
        """Return what the upstreams were asked for by one person."""
        return [row for row in self.installation.ledger() if row["sent_by"].get("user") == user_id]

    def wait(self, user_id: str, generations: int) -> None:
        """Wait until so many generations of a person have ended and the host is at rest."""

        def is_at_rest() -> bool:
            rows = self.rows_of(user_id)
            has_ended = len(rows) >= generations and all(row["status"] != "open" for row in rows)
            return has_ended and not self.admin.running_tasks()

        wait_for(is_at_rest, f"{generations} generations to end", 30)

    def account_of(self, user_id: str) -> Account:
        """Hold one person's books against the ledger, as they stand now."""
        bills, unmetered = self.books.bills_of(user_id), self.books.unmetered_of(user_id)
        return settle_account(self.rows_of(user_id), bills, unmetered)

    def wait_for_note(self) -> None:
        """Wait until a generation that has begun is noted on disk."""
        wait_for(
            lambda: any(status.open_generations for status in self.books.status()),
            "an open note",
            10,
        )

    def account_once(
        self,
        user_id: str,
        is_complete: Callable[[Account], bool],
        seconds: float = _BOOKED_WITHIN_SECONDS,
    ) -> Account:
        """Collect until the account is as expected, or return it as it stands in the end."""
        account: list[Account] = []

        def is_reached() -> bool:
            self.books.collect()
            account[:] = [self.account_of(user_id)]
            return is_complete(account[0])

        try:
            wait_for(is_reached, "the books", seconds)
        except TimeoutError:
            return account[0]
        return account[0]

    def close(self) -> None:
        """Sign everybody off and close the books; the servers are the installation's."""
        for visitor in self._visitors:
            visitor.close()
        self.books.close()


@dataclass
class Play:
    """One scenario while it is played."""

    stage: Stage
    visitor: Visitor

    @property
    def user_id(self) -> str:
        """The person who plays."""
        return self.visitor.person.user_id

    def wait(self, generations: int) -> None:
        """Wait until so many generations of this scenario have ended."""
        self.stage.wait(self.user_id, generations)

    def wait_for_open(self, generations: int, words: int = 3) -> None:
        """Wait until the last of so many generations has sent its first words."""

        def has_begun() -> bool:
            rows = self.stage.rows_of(self.user_id)
            return len(rows) == generations and rows[-1]["completion_tokens"] >= words

        wait_for(has_begun, f"generation {generations} to begin", 20)

    def ask_in_channel(self, prompt: str) -> None:
        """Mention the model in a channel."""
        channel_id = self.stage.admin.create_channel("talk", [self.user_id])
        body: dict[str, Any] = {"content": f"<@M:{MODEL}|Mini> {prompt}", "data": {}}
        answer = self.visitor.post(f"/api/v1/channels/{channel_id}/messages/post", body)
        assert answer.status_code == 200, answer.text


def open_stage(folder: Path, workers: int = 1, **environment: str) -> Stage:
    """Start an installation and furnish it; no plugin is installed yet."""
    installation = Installation(folder, {"USAGE_CLIENT_ORG": "acme", **environment}, workers)
    try:
        installation.start()
        stage = Stage(installation)
        stage.furnish()
    except BaseException:
        installation.stop()
        raise
    return stage
