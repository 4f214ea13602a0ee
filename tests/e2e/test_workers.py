"""Open WebUI with four worker processes on one spool: nothing lost, nothing twice."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.fates import Fate
from tests.e2e.stage import Play, Stage
from tests.e2e.visitor import Visitor

pytestmark = pytest.mark.e2e

_VISITORS, _CALLS = 8, 6


def _call_often(visitor: Visitor) -> None:
    for number in range(_CALLS):
        is_streamed = number % 3 != 2
        answer = visitor.call(f"hello {number} [[slow=0.02]]", stream=is_streamed)
        assert answer.status_code == 200, answer.text


def test_four_workers_book_every_answer_once(busy_stage: Stage) -> None:
    busy_stage.install(function=True, pipeline=False)
    visitors = [busy_stage.visitor() for _ in range(_VISITORS)]
    with ThreadPoolExecutor(_VISITORS) as pool:
        list(pool.map(_call_often, visitors))
    spool = busy_stage.installation.spool_folder / "function.sqlite3"
    assert len(busy_stage.installation.open_webui.processes_holding(spool)) > 1
    for visitor in visitors:
        play = Play(busy_stage, visitor)
        play.wait(_CALLS)
        account = busy_stage.account_once(
            play.user_id, lambda account: account.count(Fate.BOOKED) == _CALLS
        )
        assert not account.wrong
        assert account.count(Fate.BOOKED) == len(account.rows) == _CALLS
        assert account.difference_usd == 0
