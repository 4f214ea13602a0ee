"""The spool's log: laid out from the start, synced for whoever waits, shared by whoever comes."""

import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shared.spool import writer as spool_writer
from shared.spool.file import SpoolFile
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool
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


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the writer did to its file."""
    done: list[str] = []
    writing, checkpoint = SpoolFile.writing, SpoolFile.checkpoint

    @contextmanager
    def noting(file: SpoolFile, *, is_synced: bool) -> Iterator[sqlite3.Connection]:
        with writing(file, is_synced=is_synced) as db:
            yield db
            done.append(f"synchronous {db.execute('PRAGMA synchronous').fetchone()[0]}")

    def noting_checkpoint(file: SpoolFile) -> None:
        checkpoint(file)
        done.append("checkpoint")

    monkeypatch.setattr(SpoolFile, "writing", noting)
    monkeypatch.setattr(SpoolFile, "checkpoint", noting_checkpoint)
    return done


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


def test_only_what_somebody_awaits_is_synced_at_once(path: Path, transactions: list[str]) -> None:
    spool = SqliteSpool(path, clock=SetClock())
    spool.put([settled()]).result(20)
    wait_for(lambda: transactions[-1:] == ["checkpoint"])
    assert set(transactions) == {"synchronous 2", "checkpoint"}
    transactions.clear()
    spool.track(pending(request_id=generation_id(2)))
    wait_for(lambda: transactions)
    assert transactions[0] == "synchronous 1"
    spool.close()


def test_a_note_that_nothing_follows_is_synced_soon(
    path: Path, transactions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_writer, "_UNSYNCED_SECONDS", 0.01)
    spool = SqliteSpool(path, clock=SetClock())
    spool.put([settled()]).result(20)
    wait_for(lambda: transactions[-1:] == ["checkpoint"])
    transactions.clear()
    spool.track(pending(request_id=generation_id(2)))
    wait_for(lambda: transactions == ["synchronous 1", "checkpoint"])
    spool.close()


def test_an_empty_commit_does_not_pass_for_the_sync_of_a_note(
    path: Path, transactions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = SqliteSpool(path, clock=SetClock())
    spool.put([settled()]).result(20)
    wait_for(lambda: transactions[-1:] == ["checkpoint"])
    transactions.clear()
    monkeypatch.setattr(spool_writer, "_UNSYNCED_SECONDS", 0.2)
    spool.track(pending(request_id=generation_id(2)))
    wait_for(lambda: transactions)
    spool.put([]).result(20)
    wait_for(lambda: transactions == ["synchronous 1", "synchronous 2", "checkpoint"])
    spool.close()


def test_what_comes_while_a_transaction_runs_is_part_of_it(
    path: Path, transactions: list[str]
) -> None:
    spool = SqliteSpool(path, clock=SetClock())
    spool.put([settled()]).result(20)
    wait_for(lambda: transactions[-1:] == ["checkpoint"])
    transactions.clear()
    late = spool._submit(lambda _: spool.put([settled(request_id=generation_id(2))])).result(20)
    assert late.result(20) == ["queued"]
    assert transactions == ["synchronous 2"]
    spool.close()
