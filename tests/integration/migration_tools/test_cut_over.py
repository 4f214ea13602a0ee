"""The commands of docs/migration.md, run as they stand there, from the original system and back."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.builders import settled
from tests.support.legacy import FIRST_DAY, believable_requests, legacy_database
from tests.support.migrations import Lab, influx_environment, lab_in
from tests.support.services.influx import influx_server

pytestmark = pytest.mark.service
BLOCK = re.compile(r"<!-- run: ([a-z ]+) -->\n```sh\n(.*?)```", re.DOTALL)
TOTAL = sum(each.nano_usd * 1000 for each in believable_requests())


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    server = influx_server("2.9")
    bucket = server.bucket()
    environment = influx_environment(bucket) | {
        "INFLUXDB_FIRST_ENABLED": "false",
        "USAGE_SPOOL_DIR": str(tmp_path / "spool"),
    }
    legacy_database(tmp_path / "webui.db", believable_requests())
    yield lab_in(tmp_path, monkeypatch, **environment)
    server.drop(bucket.bucket)


def run(name: str) -> None:
    """Run a block of the docs in a shell that stops at the first failure."""
    blocks = dict(BLOCK.findall((ROOT / "docs" / "migration.md").read_text()))
    python = ROOT / ".venv" / "bin"
    path = f"{python}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-eu", "-c", blocks[name]], cwd=ROOT, env=os.environ | {"PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])


def billed(lab: Lab) -> int:
    [(total,)] = lab.view("SELECT coalesce(sum(raw_pico_usd), 0) FROM daily_usage")
    return int(total)


def test_the_whole_way_from_the_original_system_and_back(lab: Lab) -> None:
    run("original system")
    assert billed(lab) == TOTAL
    run("influxdb first")
    assert billed(lab) == TOTAL
    with lab.ledger() as ledger:
        influx = ledger.store_named("influxdb")
        assert influx is not None
        assert influx.health().ok
    run("emergency")
    assert billed(lab) == TOTAL
    live = settled(occurred_at=f"{FIRST_DAY}T15:00:00Z", client_org_id="acme")
    lab.put([live])
    run("data")
    assert lab.events() == [live]
    assert billed(lab) == 20_250_000
    assert lab.run("list")["backups"][-1]["state"] == "rolled back"
