"""Reloads, restarts and crashes in the middle of an answer: booked once, or pending, never lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from demo.installation import PIPELINES, PLUGIN
from tests.e2e.account import Account
from tests.e2e.fates import Fate
from tests.e2e.stage import Play, Stage

pytestmark = pytest.mark.e2e


def _all(fate: Fate) -> Callable[[Account], bool]:
    return lambda account: set(account.fates.values()) == {fate}


def _finish(play: Play, answers: int = 1) -> Account:
    play.stage.installation.release()
    play.wait(answers)
    return play.stage.account_once(play.user_id, _all(Fate.BOOKED))


@pytest.mark.parametrize("reload", ["the Function saved", "the plugin uploaded", "both"])
def test_an_answer_outlives_a_reload(stage: Stage, reload: str) -> None:
    stage.install(function=True, pipeline=True)
    play = Play(stage, stage.visitor())
    play.visitor.ask("[[hold]]", background_tasks={})
    play.wait_for_open(1)
    if reload != "the plugin uploaded":
        stage.save_function_again()
    if reload != "the Function saved":
        stage.upload_again()
    account = _finish(play)
    assert not account.wrong
    assert account.in_order == [Fate.BOOKED]


def test_pipelines_alone_books_an_answer_that_began_before_a_reload(stage: Stage) -> None:
    stage.install(function=False, pipeline=True)
    play = Play(stage, stage.visitor())
    play.visitor.ask("[[hold]]", background_tasks={})
    play.wait_for_open(1)
    stage.upload_again()
    account = _finish(play)
    assert not account.wrong
    assert account.in_order == [Fate.BOOKED]


def test_the_same_file_installed_twice_books_once(stage: Stage, tmp_path: Path) -> None:
    stage.install(function=True, pipeline=True)
    copy = tmp_path / "usage_ledger_copy.py"
    copy.write_text(PLUGIN.read_text())
    stage.admin.create_function("usage_ledger_twice", copy)
    stage.admin.upload_pipeline(PIPELINES, copy)
    try:
        play = Play(stage, stage.visitor())
        play.visitor.ask("hello", background_tasks={})
        play.visitor.call("hello", stream=False)
        play.visitor.ask("hello", stream=False, background_tasks={})
        account = _finish(play, 3)
    finally:
        stage.admin.delete_pipeline(PIPELINES, copy.stem)
        stage.admin.delete_function("usage_ledger_twice")
    assert not account.wrong
    assert account.in_order == [Fate.BOOKED] * 3
    assert account.difference_usd == 0


def test_pipelines_twice_counts_every_task_once(stage: Stage, tmp_path: Path) -> None:
    stage.install(function=False, pipeline=True)
    copy = tmp_path / "usage_ledger_copy.py"
    copy.write_text(PLUGIN.read_text())
    stage.admin.upload_pipeline(PIPELINES, copy)
    try:
        play = Play(stage, stage.visitor())
        play.visitor.ask("hello")
        play.wait(4)
        account = stage.account_once(play.user_id, lambda account: len(account.fates) == 4)
    finally:
        stage.admin.delete_pipeline(PIPELINES, copy.stem)
    assert not account.wrong
    assert sorted(account.fates.values()) == [Fate.BOOKED] + [Fate.UNMETERED] * 3


def test_chats_go_on_while_pipelines_is_down(stage: Stage) -> None:
    stage.install(function=True, pipeline=True)
    play = Play(stage, stage.visitor())
    pipelines = stage.installation.pipelines
    pipelines.stop()
    try:
        play.visitor.ask("hello", background_tasks={})
        play.wait(1)
    finally:
        pipelines.start()
        pipelines.wait_until_ready("/")
        stage.admin.load_models()
    account = _finish(play)
    assert not account.wrong
    assert account.in_order == [Fate.BOOKED]


def test_an_answer_is_pending_after_the_host_was_killed(spare_stage: Stage) -> None:
    spare_stage.install(function=True, pipeline=False)
    play = Play(spare_stage, spare_stage.visitor())
    play.visitor.ask("before", background_tasks={})
    play.wait(1)
    play.visitor.ask("[[hold]]", background_tasks={})
    play.wait_for_open(2)
    spare_stage.wait_for_note()
    open_webui = spare_stage.installation.open_webui
    open_webui.kill()
    spare_stage.books.age_notes(seconds=120)
    open_webui.start()
    open_webui.wait_until_ready("/health")
    after = Play(spare_stage, spare_stage.visitor())
    after.visitor.ask("after", background_tasks={})
    after.wait(1)
    account = spare_stage.account_once(
        play.user_id, lambda account: Fate.PENDING in account.fates.values(), seconds=30
    )
    assert not account.wrong
    assert account.in_order == [Fate.BOOKED, Fate.PENDING]
