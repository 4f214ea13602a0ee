"""The stages all end-to-end tests share, and the coverage table at the end of the run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from demo.installation import ROOT, host_versions
from tests.conftest import missing, needs_host, needs_program
from tests.e2e.coverage import Line, coverage_table
from tests.e2e.performance import Performance, perform
from tests.e2e.scenarios import SCENARIOS
from tests.e2e.stage import Stage, open_stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_LINES = pytest.StashKey[list[Line]]()
_TABLE = ROOT / ".cache" / "e2e" / "coverage.md"
_CHROMIUM_SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_configure(config: pytest.Config) -> None:
    """Make room for the table."""
    config.stash[_LINES] = []


def _run(
    request: pytest.FixtureRequest,
    factory: pytest.TempPathFactory,
    workers: int = 1,
    **environment: str,
) -> Iterator[Stage]:
    """Start the real hosts and end them; their logs are shown when a test has failed."""
    needs_host("open-webui")
    needs_host("pipelines-current")
    failed_before = request.session.testsfailed
    stage = open_stage(factory.mktemp("stage"), workers, **environment)
    yield stage
    stage.close()
    stage.installation.stop()
    if request.session.testsfailed > failed_before:
        print(stage.installation.logs())


@pytest.fixture(scope="session")
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Return the stage on which nearly everything is played."""
    yield from _run(request, tmp_path_factory)


@pytest.fixture(scope="session")
def spare_stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Return a stage without outlets for the API, for a test that may crash it."""
    yield from _run(request, tmp_path_factory, ENABLE_API_OUTLET_FILTERS="false")


@pytest.fixture(scope="module")
def busy_stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Return a stage whose Open WebUI has four worker processes."""
    yield from _run(request, tmp_path_factory, workers=4)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Start Debian's Chromium."""
    chromium = needs_program("chromium", "apt-get install --no-install-recommends chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        missing("playwright", "make .venv anew: it stands in tests/requirements.txt")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=_CHROMIUM_SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lines(request: pytest.FixtureRequest) -> list[Line]:
    """Collect the lines of the coverage table."""
    return request.config.stash[_LINES]


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
