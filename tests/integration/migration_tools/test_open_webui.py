"""Open WebUI's own records become turns, priced where they can be, estimated where they drifted."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import ALICE, BOB, generation_id, settled, turn
from tests.support.migrations import Lab, lab_in
from tests.support.open_webui_database import AT, Saved, open_webui_database, usage
from tests.support.services.postgres import DATABASES, a_database

NOON = datetime.fromtimestamp(AT, UTC)
DAY = NOON.date()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return lab_in(tmp_path, monkeypatch)


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of Open WebUI's."""
    with a_database(request.param, tmp_path, "webui.db") as url:
        yield url.replace("postgresql://", "postgresql+psycopg://")


def run(lab: Lab, command: str, url: str, code: int = 0) -> dict[str, Any]:
    return lab.run(command, "--source", "open-webui", "--from", url, code=code)


def test_answers_come_in_with_their_people_models_and_costs(lab: Lab, url: str) -> None:
    open_webui_database(url, [
        Saved(),
        Saved(message_id="message-2", user_id=BOB, model="helper", kept=usage(7.4e-7, 30)),
        Saved(message_id="message-3", model="fusion", kept=usage(0.0)),
        Saved(message_id="message-4", kept=None),
        Saved(message_id="message-5", model="llama3", kept={"total_tokens": 7}),
        Saved(message_id="message-6", model="router.meta-llama/llama-4", kept=usage(8.4e-05)),
    ])  # fmt: skip
    run(lab, "migrate", url)
    found = {
        event.message_id: (event.external_user, event.model, str(event.cost_usd.normalize()))
        for event in lab.events()
        if event.cost_usd is not None
    }
    assert found == {
        "message-1": (ALICE, "openai/gpt-5-mini", "0.00002025"),
        "message-2": (BOB, "anthropic/claude-haiku-4.5", "7.4E-7"),
        "message-3": (ALICE, "unresolved:fusion", "0"),
        "message-6": (ALICE, "meta-llama/llama-4", "0.000084"),
    }
    assert {(event.grain, event.cost_source) for event in lab.events()} == {("turn", "outlet")}
    assert run(lab, "verify", url)["differences"] == []


def test_a_continued_answer_is_an_estimate_and_is_listed(lab: Lab, url: str) -> None:
    open_webui_database(url, [Saved(kept=usage(14.4e-05, 216), shown=usage(3.125e-05, 53))])
    output = run(lab, "migrate", url)
    [event] = lab.events()
    assert event.cost_usd is None
    assert str(event.estimated_cost_usd) == "0.000031250000"
    assert event.cost_source == "estimate"
    [remark] = output["remarks"]
    assert "0.000144 USD and 0.00003125 USD" in remark["detail"]


def test_a_cost_of_null_is_pending_not_nothing(lab: Lab, url: str) -> None:
    open_webui_database(url, [Saved(kept=usage(None))])
    run(lab, "migrate", url)
    assert lab.bills() == {"turn:chat-1:message-1": "None"}


def test_an_answer_captured_live_is_counted_once(lab: Lab, url: str) -> None:
    open_webui_database(url, [Saved(), Saved(message_id="message-2", at=AT + 60)])
    lab.put([
        turn(occurred_at=NOON),
        settled(request_id=generation_id(1, AT + 62), message_id="message-2",
                occurred_at=datetime.fromtimestamp(AT + 62, UTC)),
    ])  # fmt: skip
    run(lab, "migrate", url)
    assert sorted(lab.bills()) == [generation_id(1, AT + 62), "turn:chat-1:message-1"]
    assert [row[-1] for row in lab.summaries(DAY, DAY)] == [2 * 20_250_000]


def test_a_day_of_generations_that_name_no_answer_stays_out(lab: Lab, url: str) -> None:
    open_webui_database(url, [Saved()])
    lab.put([settled(occurred_at=NOON, chat_id=None, message_id=None, source="webhook",
                     cost_source="webhook")])  # fmt: skip
    output = run(lab, "migrate", url, code=1)
    assert output["events"] == 0


def test_a_rollback_leaves_what_was_captured_live(lab: Lab, url: str) -> None:
    open_webui_database(url, [Saved(), Saved(message_id="message-2")])
    live = turn(occurred_at=NOON)
    lab.put([live])
    output = run(lab, "migrate", url)
    lab.run("rollback", "--backup-id", str(output["backup_id"]))
    assert lab.events() == [live]


def test_an_older_open_webui_has_its_usage_in_the_chats_alone(lab: Lab, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/webui.db"
    open_webui_database(url, [Saved(), Saved(message_id="message-2")], with_messages=False)
    assert run(lab, "migrate", url)["events"] == 2
    assert run(lab, "migrate", url)["events"] == 2
    assert len(lab.events()) == 2


def test_what_is_no_database_of_open_webui_is_refused(lab: Lab, tmp_path: Path) -> None:
    for location, words in (
        (str(tmp_path / "missing.db"), "no such file"),
        ("postgresql://nobody@127.0.0.1:1/webui", "cannot be read"),
        (str(tmp_path / "text.db"), "cannot be read"),
    ):
        (tmp_path / "text.db").write_text("no database" * 100)
        assert words in str(run(lab, "plan", location, code=3)["error"])
