"""What all tests share: which hosts and services are there, and what to say when one is not."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.services.shared import begin_run, end_run

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
# A busy machine is no failure of a property.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")


def missing(what: str, remedy: str) -> None:
    """Skip the test and say what would run it; under CI a missing service is a failure."""
    sentence = f"{what} is not here: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


def needs_host(name: str) -> Path:
    """Return a host's environment: `pipelines-current`, `pipelines-pinned` or `open-webui`."""
    home = CACHE / "hosts" / name
    if not (home / "bin" / "python").exists():
        missing(f"the host {name}", "run `make hosts`")
    return home


def needs_program(name: str, remedy: str) -> Path:
    """Return the path of a program on PATH."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        program = Path(folder) / name
        if program.exists():
            return program
    missing(f"the program {name}", remedy)
    raise AssertionError("missing() never returns")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Take twice as many workers as cores: many tests wait for a process or a server.

    `-n logical` is as many as cores: what keeps them busy by itself.
    """
    cores = os.cpu_count() or 1
    return cores if config.option.numprocesses == "logical" else 2 * cores


def pytest_configure(config: pytest.Config) -> None:
    """Make room for the servers that all workers share."""
    if not hasattr(config, "workerinput"):
        begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End those servers."""
    if not hasattr(config, "workerinput"):
        end_run()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of the machine that runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith(("USAGE_", "INFLUXDB_")) and not name.startswith(
            ("USAGE_TEST_", "INFLUXDB_TEST_")
        ):
            monkeypatch.delenv(name)
