"""The stage all end-to-end tests share, and the coverage table at the end of the run."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from demo.installation import ROOT, host_versions
from tests.conftest import needs_host
from tests.e2e.coverage import Line, coverage_table
from tests.e2e.scenarios import SCENARIOS, Scenario
from tests.e2e.stage import Play, Stage, open_stage
from tests.e2e.visitor import Visitor

_LINES = pytest.StashKey[list[Line]]()
_TABLE = ROOT / ".cache" / "e2e" / "coverage.md"


@dataclass
class Performance:
    """All scenarios played on one kind of installation: by whom, and what went wrong."""

    installed: str
    stage: Stage
    users: dict[str, str]
    failures: dict[str, Exception]


def pytest_configure(config: pytest.Config) -> None:
    """Make room for the table."""
    config.stash[_LINES] = []


@pytest.fixture(scope="session")
def stage(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """Start the real hosts once; their logs are shown when a test has failed."""
    needs_host("open-webui")
    needs_host("pipelines-current")
    stage = open_stage(tmp_path_factory.mktemp("stage"))
    yield stage
    stage.close()
    stage.installation.stop()
    if request.session.testsfailed:
        print(stage.installation.logs())


@pytest.fixture(scope="session")
def spare_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start the hosts once more, without outlets for the API, for a test that may crash them."""
    needs_host("open-webui")
    needs_host("pipelines-current")
    stage = open_stage(tmp_path_factory.mktemp("spare"), ENABLE_API_OUTLET_FILTERS="false")
    yield stage
    stage.close()
    stage.installation.stop()


@pytest.fixture(scope="session")
def lines(request: pytest.FixtureRequest) -> list[Line]:
    """Collect the lines of the coverage table."""
    return request.config.stash[_LINES]


def perform(stage: Stage, installed: str, scenarios: Sequence[Scenario]) -> Performance:
    """Play scenarios one after the other, each by a person of its own, and let all of them end."""
    performance = Performance(installed, stage, {}, {})
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


@pytest.fixture(scope="module", params=["function", "both", "pipelines"])
def performance(stage: Stage, request: pytest.FixtureRequest) -> Performance:
    """Play every scenario that was selected, where the plugin stands in these hosts."""
    installed: str = request.param
    stage.install(function=installed != "pipelines", pipeline=installed != "function")
    names = {item.name for item in request.session.items}
    chosen = [one for one in SCENARIOS if any(one.name in name for name in names)]
    return perform(stage, installed, chosen)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the coverage table and leave it where the page in docs/ is made from."""
    lines = terminalreporter.config.stash[_LINES]
    if not lines:
        return
    table = f"{host_versions()}\n\n{coverage_table(lines)}"
    terminalreporter.section("coverage: billed and booked, path by path")
    terminalreporter.write_line(table)
    _TABLE.parent.mkdir(parents=True, exist_ok=True)
    _TABLE.write_text(table + "\n")
