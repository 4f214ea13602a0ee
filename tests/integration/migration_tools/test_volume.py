"""A migration needs no more memory for many days than for few."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.support.legacy import huge_database
from tests.support.migrations import Lab, lab_in

# Runs the command and prints what the process needed at most, in KiB.
PEAK = """
import resource, sys
from typer.testing import CliRunner
from migration_tools.cli import app
assert CliRunner().invoke(app, ["migrate", "--json"]).exit_code == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kib(lab: Lab, days: int) -> int:
    huge_database(lab.folder / "webui.db", days=days, people=600, models=4)
    done = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=ROOT, env=os.environ | lab.environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


def test_ten_times_the_days_take_no_more_memory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (
        peak_kib(lab_in(tmp_path_factory.mktemp(f"days{days}"), monkeypatch), days)
        for days in (3, 30)
    )
    assert many < few + 12 * 1024
