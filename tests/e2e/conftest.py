"""The stages all end-to-end tests share, and the coverage table at the end of the run."""

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from demo.installation import ROOT, host_versions
from tests.conftest import missing, needs_host, needs_program
from tests.e2e.coverage import Line, coverage_table
from tests.e2e.performance import Performance, perform
from tests.e2e.scenarios import SCENARIOS
from tests.e2e.stage import Stage, open_stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Each line with the place of its test: the table is the same, whichever workers played it.
_LINES = pytest.StashKey[list[tuple[int, Line]]]()
INSTALLATIONS = ("function", "both", "pipelines")
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest and cannot be divided."""
    items.sort(key=lambda item: item.path.stem != "test_workers")


class StageScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a worker what shares a stage: a file, or the scenarios of one kind of installation."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, name = nodeid.partition("::")
        installed = name.partition("[")[2].partition("-")[0]
        return f"{path} {installed}" if installed in INSTALLATIONS else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> StageScheduling:
    """Divide the tests by stage, in the order of their collection."""
    config.option.loadscopereorder = False
    return StageScheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the lines of a worker to the run."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["lines"] = pickle.dumps(session.config.stash[_LINES])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the lines of a worker; one that crashed has none."""
    lines = getattr(node, "workeroutput", {}).get("lines")
    if lines:
        node.config.stash[_LINES] += pickle.loads(lines)  # noqa: S301  written by this very run


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


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[list[Line]]:
    """Collect the lines of the coverage table."""
    found: list[Line] = []
    yield found
    place = request.session.items.index(request.node)
    request.config.stash[_LINES] += [(place, line) for line in found]


@pytest.fixture(scope="module", params=INSTALLATIONS)
def performance(stage: Stage, request: pytest.FixtureRequest) -> Performance:
    """Play every scenario that was selected, where the plugin stands in these hosts."""
    installed: str = request.param
    stage.install(function=installed != "pipelines", pipeline=installed != "function")
    names = {item.name for item in request.session.items}
    chosen = [one for one in SCENARIOS if any(one.name in name for name in names)]
    return perform(stage, installed, chosen)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the coverage table and leave it where the page in docs/ is made from."""
    placed = terminalreporter.config.stash[_LINES]
    if not placed:
        return
    lines = [line for _, line in sorted(placed, key=lambda each: each[0])]
    table = f"{host_versions()}\n\n{coverage_table(lines)}"
    terminalreporter.section("coverage: billed and booked, path by path")
    terminalreporter.write_line(table)
    _TABLE.parent.mkdir(parents=True, exist_ok=True)
    _TABLE.write_text(table + "\n")
