"""Whose key paid: each event has the hash of the key that its connection sent, and no other."""

import pytest

from demo.installation import OPENROUTER_KEY, PREFIXED_KEY
from shared.core.ids import key_hash
from tests.e2e.fates import Fate
from tests.e2e.stage import Play, Stage

pytestmark = pytest.mark.e2e


def test_every_answer_has_the_hash_of_the_key_of_its_connection(stage: Stage) -> None:
    stage.install(function=True, pipeline=True)
    play = Play(stage, stage.visitor())
    play.visitor.ask("hello", background_tasks={})
    play.visitor.ask("hello", "house-preset", background_tasks={})
    play.visitor.ask("hello", "house-arena", background_tasks={})
    play.visitor.call("hello", stream=False)
    play.wait(4)
    _expect(play, [OPENROUTER_KEY] * 4)
    play.visitor.ask("hello", "or.openai/gpt-5-nano", background_tasks={})
    play.visitor.call("hello", stream=True, model="or.openai/gpt-5-nano")
    play.wait(6)
    _expect(play, [OPENROUTER_KEY] * 4 + [PREFIXED_KEY] * 2)


def _expect(play: Play, keys: list[str]) -> None:
    account = play.stage.account_once(
        play.user_id, lambda account: account.count(Fate.BOOKED) == len(keys)
    )
    assert not account.wrong
    bills = play.stage.books.bills_of(play.user_id)
    assert sorted(bill.event.api_key_hash for bill in bills) == sorted(map(key_hash, keys))


def test_no_key_is_in_the_spool_or_in_a_log(stage: Stage) -> None:
    stage.install(function=True, pipeline=True)
    play = Play(stage, stage.visitor())
    play.visitor.ask("hello", background_tasks={})
    play.wait(1)
    _expect(play, [OPENROUTER_KEY])
    spools = b"".join(path.read_bytes() for path in stage.installation.spool_folder.iterdir())
    assert spools
    for key in (OPENROUTER_KEY, PREFIXED_KEY):
        assert key.encode() not in spools
        assert key not in stage.installation.logs()
