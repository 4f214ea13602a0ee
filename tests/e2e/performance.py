"""All scenarios on one kind of installation: who played what, and what went wrong."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.e2e.scenarios import Scenario
from tests.e2e.stage import Play, Stage
from tests.e2e.visitor import Visitor


@dataclass
class Performance:
    """What was played: the person of each scenario, and the errors that ended some of them."""

    installed: str
    stage: Stage
    users: dict[str, str] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)


def perform(stage: Stage, installed: str, scenarios: Sequence[Scenario]) -> Performance:
    """Play scenarios one after the other, each by a person of its own, and let all of them end."""
    performance = Performance(installed, stage)
    # Hashing a new password takes the host longer than most scenarios: it goes on beside them.
    with ThreadPoolExecutor(2) as pool:
        visitors = pool.map(lambda _: stage.visitor(), scenarios)
        for scenario, visitor in zip(scenarios, visitors, strict=True):
            _perform_one(performance, scenario, visitor)
    return performance


def _perform_one(performance: Performance, scenario: Scenario, visitor: Visitor) -> None:
    performance.users[scenario.name] = visitor.person.user_id
    play = Play(performance.stage, visitor)
    try:
        scenario.play(play)
        play.wait(scenario.generations)
    except Exception as error:  # noqa: BLE001  one scenario must not hide the others
        performance.failures[scenario.name] = error
