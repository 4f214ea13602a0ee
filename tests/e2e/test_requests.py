"""What the Pipelines filter adds to requests: our identities for OpenRouter, nothing for others."""

import pytest

from tests.e2e.stage import Play, Stage

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def pipelines_stage(stage: Stage) -> Stage:
    """Return the stage with the plugin in Pipelines only."""
    stage.install(function=False, pipeline=True)
    return stage


@pytest.fixture
def play(pipelines_stage: Stage) -> Play:
    """Let somebody new sign in."""
    return Play(pipelines_stage, pipelines_stage.visitor())


def test_it_tells_openrouter_the_user_of_answers_and_tasks(play: Play) -> None:
    play.visitor.ask("hello")
    play.wait(4)
    rows = play.stage.rows_of(play.user_id)
    assert {row["user"] for row in rows} == {play.user_id}
    assert len(rows) == 4


def test_it_tells_openrouter_the_chat_by_valve(play: Play) -> None:
    chat = play.visitor.ask("hello", background_tasks={})
    play.wait(1)
    [row] = play.stage.rows_of(play.user_id)
    assert row["session_id"] == chat.chat_id


def test_it_tells_openrouter_the_user_behind_a_preset(play: Play) -> None:
    play.visitor.ask("hello", "house-preset", background_tasks={})
    play.wait(1)
    [row] = play.stage.rows_of(play.user_id)
    assert row["user"] == play.user_id


def test_it_leaves_alone_what_the_caller_sent(play: Play) -> None:
    play.visitor.call("hello", stream=False, user="chosen by the caller")
    [row] = play.stage.rows_of(play.user_id)
    assert row["user"] == "chosen by the caller"


def test_it_adds_nothing_for_a_strict_foreign_server(play: Play) -> None:
    play.visitor.ask("hello", "local-llama")
    play.wait(4)
    assert play.visitor.call("hello", stream=True, model="local-llama").status_code == 200
    rows = play.stage.rows_of(play.user_id)
    assert [row["status"] for row in rows] == ["ok"] * 5
    assert not any({"user", "session_id", "trace"} & set(row["body_keys"]) for row in rows)
