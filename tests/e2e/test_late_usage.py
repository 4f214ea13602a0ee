"""Answers that pause for longer than anybody waits: pending at first, priced when they end."""

import pytest

from tests.e2e.fates import Fate
from tests.e2e.stage import Play, Stage

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("installed", "meanwhile"),
    [("function", Fate.PENDING), ("pipelines", Fate.UNMETERED), ("both", Fate.PENDING)],
    ids=["function", "pipelines", "both"],
)
def test_usage_that_comes_late_still_prices_the_answer(
    stage: Stage, installed: str, meanwhile: Fate
) -> None:
    stage.install(function=installed != "pipelines", pipeline=installed != "function")
    play = Play(stage, stage.visitor())
    play.visitor.ask("[[hold]]", background_tasks={})
    play.wait_for_open(1)
    account = stage.account_once(play.user_id, lambda account: account.in_order == [meanwhile])
    assert account.in_order == [meanwhile]

    stage.installation.release()
    play.wait(1)
    account = stage.account_once(play.user_id, lambda account: account.in_order == [Fate.BOOKED])
    assert not account.wrong
    assert account.in_order == [Fate.BOOKED]
    assert account.difference_usd == 0
