"""The spool's log: laid out from the start, synced for awaited work, bounded."""

import resource
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shared.spool import writer as spool_writer
from shared.spool.enqueue import SpoolTransaction
from shared.spool.file import SpoolFile
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool
from shared.spool.writer import SpoolCounters, SpoolWriter
from tests.support.builders import generation_id, pending, settled
from tests.support.spools import SetClock
from tests.support.waiting import wait_for

LAID_OUT = 4 * 1024**2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "function.sqlite3"


@pytest.fixture
def spool(path: Path) -> Iterator[SqliteSpool]:
    opened = SqliteSpool(path, clock=SetClock(), settings=SpoolSettings(synchronous="NORMAL"))
    yield opened
    opened.close()


class Syncs:
    """What a power loss would take: whether all that was committed has been synced since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commits = 0
        self.is_safe = True
        self.has_checkpointed = False
        self._writing, self._checkpoint = SpoolFile.writing, SpoolFile.checkpoint
        monkeypatch.setattr(SpoolFile, "writing", lambda file, **how: self.writing(file, **how))
        monkeypatch.setattr(SpoolFile, "checkpoint", lambda file: self.checkpoint(file))

    @contextmanager
    def writing(self, file: SpoolFile, *, is_synced: bool) -> Iterator[sqlite3.Connection]:
        with self._writing(file, is_synced=is_synced) as db:
            before = db.total_changes
            yield db
            # SQLite syncs the log with a commit at FULL, and not when nothing was written.
            has_changed = db.total_changes > before
            is_full = db.execute("PRAGMA synchronous").fetchone() == (2,)
        if has_changed:
            self.is_safe = is_full
            self.commits += 1

    def checkpoint(self, file: SpoolFile) -> None:
        self._checkpoint(file)
        self.is_safe = self.has_checkpointed = True


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    return Syncs(monkeypatch)


def log_bytes(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


def test_a_log_has_its_size_from_the_start_and_is_written_over(
    spool: SqliteSpool, path: Path
) -> None:
    spool.put([settled()]).result(20)
    assert log_bytes(path) == LAID_OUT
    for number in range(2, 402):
        spool.put([settled(request_id=generation_id(number))]).result(20)
    assert log_bytes(path) == LAID_OUT
    assert spool.status().queued == 401


def test_a_log_that_is_laid_out_loses_no_commit_with_its_process(
    spool: SqliteSpool, path: Path, tmp_path: Path
) -> None:
    for number in range(1, 6):
        spool.put([settled(request_id=generation_id(number))]).result(20)
    (tmp_path / "killed").mkdir()
    for part in ("", "-wal"):
        shutil.copy(f"{path}{part}", tmp_path / "killed")
    left = tmp_path / "killed" / path.name
    with closing(sqlite3.connect(left)) as file:
        assert file.execute("SELECT count(*) FROM rows").fetchone() == (5,)
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = SqliteSpool(left, clock=SetClock())
    assert again.put([settled(request_id=generation_id(5))]).result(20) == ["duplicate"]
    again.close()


def test_a_disk_without_room_for_a_log_still_takes_rows(
    spool: SqliteSpool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Path, _mode: str, buffering: int) -> None:
        raise OSError(28, f"No space left on device, {buffering}")

    monkeypatch.setattr(Path, "open", full)
    assert spool.put([settled()]).result(20) == ["queued"]
    assert 0 < log_bytes(path) < LAID_OUT


def test_a_disk_with_room_for_half_a_log_is_not_filled_up(spool: SqliteSpool, path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LAID_OUT // 2, hard))
    try:
        assert spool.put([settled()]).result(20) == ["queued"]
        assert 0 < log_bytes(path) < LAID_OUT // 4
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_awaited_is_safe_from_a_power_loss_when_its_future_is_done(
    path: Path, syncs: Syncs
) -> None:
    spool = SqliteSpool(path, clock=SetClock())
    for number in range(1, 20):
        spool.put([settled(request_id=generation_id(number))]).result(20)
        assert syncs.is_safe
    spool.close()


def test_an_open_generation_costs_no_sync_of_its_own_and_is_safe_with_the_next_row(
    path: Path, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_writer, "_UNSYNCED_SECONDS", 3600)
    spool = quiet_spool(path, syncs)
    spool.track(pending(request_id=generation_id(2)))
    wait_for(lambda: not syncs.is_safe)
    spool.put([settled(request_id=generation_id(3))]).result(20)
    assert syncs.is_safe
    spool.close()


def test_an_open_generation_that_nothing_follows_is_safe_soon(
    path: Path, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_writer, "_UNSYNCED_SECONDS", 0.01)
    spool = quiet_spool(path, syncs)
    commits = syncs.commits
    spool.track(pending(request_id=generation_id(2)))
    wait_for(lambda: syncs.commits > commits and syncs.is_safe)
    spool.close()


def test_an_empty_commit_does_not_pass_for_the_sync_of_an_open_generation(
    path: Path, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_writer, "_UNSYNCED_SECONDS", 0.2)
    spool = quiet_spool(path, syncs)
    spool.track(pending(request_id=generation_id(2)))
    wait_for(lambda: not syncs.is_safe)
    spool.put([]).result(20)
    wait_for(lambda: syncs.is_safe)
    spool.close()


def test_open_generations_do_not_prolong_the_log(path: Path) -> None:
    spool = SqliteSpool(path, clock=SetClock())
    for number in range(400):
        spool.track(pending(request_id=generation_id(number)))
        spool.put([]).result(20)
    assert spool.status().open_generations == 400
    assert log_bytes(path) == LAID_OUT
    spool.close()


def test_what_comes_while_a_transaction_runs_is_part_of_it(path: Path) -> None:
    counters = SpoolCounters()
    file = SpoolFile(path, "NORMAL", SetClock(), counters.add)
    writer = SpoolWriter(file, counters, SetClock(), upkeep=lambda _: 3600.0)
    late: list[Future[SpoolTransaction]] = []

    def work(tx: SpoolTransaction) -> SpoolTransaction:
        late.append(writer.submit(lambda late_tx: late_tx))
        return tx

    assert writer.submit(work).result(20) is late[0].result(20)
    writer.stop()
    assert writer.join(20)


def quiet_spool(path: Path, syncs: Syncs) -> SqliteSpool:
    """A spool whose first upkeep is over, with nothing left to sync."""
    settings = SpoolSettings(refresh_seconds=3600)  # no second upkeep, which syncs too
    spool = SqliteSpool(path, settings=settings, clock=SetClock())
    spool.put([settled()]).result(20)
    wait_for(lambda: syncs.has_checkpointed)
    return spool
