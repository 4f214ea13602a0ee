"""Every path on the real hosts: what is booked equals what was billed, to the last digit."""

import pytest

from tests.e2e.account import Account
from tests.e2e.coverage import Line
from tests.e2e.fates import Fate, better, expected_fate, is_chat
from tests.e2e.performance import Performance, perform
from tests.e2e.scenarios import SCENARIOS, Scenario
from tests.e2e.stage import Play, Stage

pytestmark = pytest.mark.e2e


# Enough to see that it does not matter which of the two was there first.
_OTHER_ORDER = (
    "first turn with title, follow-ups, tags",
    "saved chat without streaming",
    "API, streamed",
    "API, not streamed",
    "tool loop of three",
    "continue, twice",
    "stop in mid-answer",
)


def expected_fates(scenario: Scenario, installed: str, account: Account) -> dict[str, Fate]:
    """Return the fate each generation must have."""
    hosts = ("function", "pipelines") if installed.startswith("both") else (installed,)
    fates: dict[str, Fate] = {}
    for host in hosts:
        exceptions = list(scenario.fates.get(host, ()))
        for row in account.rows:
            fate = expected_fate(host, row)
            if is_chat(row) and exceptions:
                fate = exceptions.pop(0) if len(exceptions) > 1 else exceptions[0]
            fates[row["id"]] = better(fate, fates.get(row["id"], fate))
    return fates


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_it_books_what_was_billed(
    performance: Performance, scenario: Scenario, lines: list[Line]
) -> None:
    _check(performance, scenario, lines)


def test_it_does_not_matter_which_host_had_it_first(stage: Stage, lines: list[Line]) -> None:
    stage.install(function=False, pipeline=False)
    stage.install(function=False, pipeline=True)
    stage.install(function=True, pipeline=True)
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in _OTHER_ORDER]
    performance = perform(stage, "both, other order", scenarios)
    for scenario in scenarios:
        _check(performance, scenario, lines)


def test_outlets_of_the_api_may_be_switched_off(spare_stage: Stage) -> None:
    """ENABLE_API_OUTLET_FILTERS=false takes the only hook that shows an answer at once."""
    spare_stage.install(function=True, pipeline=True)
    play = Play(spare_stage, spare_stage.visitor())
    play.visitor.call("hello", stream=True)
    play.visitor.call("hello", stream=False)
    play.visitor.ask("hello", stream=False, background_tasks={})
    play.wait(3)
    expected = [Fate.BOOKED, Fate.UNMETERED, Fate.BOOKED]
    account = spare_stage.account_once(play.user_id, lambda account: account.in_order == expected)
    assert not account.wrong
    assert account.in_order == expected


def _check(performance: Performance, scenario: Scenario, lines: list[Line]) -> None:
    if scenario.name in performance.failures:
        raise performance.failures[scenario.name]
    user_id = performance.users[scenario.name]

    def is_complete(account: Account) -> bool:
        return account.fates == expected_fates(scenario, performance.installed, account)

    account = performance.stage.account_once(user_id, is_complete)
    lines.append(Line(performance.installed, scenario.name, account))

    assert len(account.rows) == scenario.generations
    assert not account.wrong
    expected = expected_fates(scenario, performance.installed, account)
    assert _readable(account, account.fates) == _readable(account, expected)
    assert account.difference_usd == 0 or Fate.MISSTATED in expected.values()


def _readable(account: Account, fates: dict[str, Fate]) -> list[str]:
    return [
        f"{row['id']} {row['sent_by'].get('task') or 'chat'} {row['status']}: {fates[row['id']]}"
        for row in account.rows
    ]
