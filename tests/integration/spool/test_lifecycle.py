"""The spool inside a foreign process: its thread, its event loop, forks and the end of both."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import SpoolError, SpoolFull
from shared.spool import writer as spool_writer
from shared.spool.file import SpoolFile
from shared.spool.lock import spool_lock
from shared.spool.port import PutOutcome
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool, put_within
from tests.conftest import ROOT
from tests.support.builders import generation_id, pending, settled
from tests.support.spools import SetClock
from tests.support.waiting import wait_for


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "function.sqlite3"


@pytest.fixture
def spool(path: Path) -> Iterator[SqliteSpool]:
    opened = SqliteSpool(path, clock=SetClock())
    yield opened
    opened.close()


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "owui_usage spool"]


def queued(path: Path) -> int:
    reader = SqliteSpool(path, clock=SetClock())
    return reader.status().queued


async def test_a_hook_gets_the_outcome_of_each_row(spool: SqliteSpool) -> None:
    assert await put_within(spool, [settled(), settled()], 20) == ["queued", "duplicate"]


async def test_a_hook_sees_when_nothing_was_queued(path: Path) -> None:
    spool = SqliteSpool(path, clock=SetClock(), settings=SpoolSettings(max_bytes=1))
    with pytest.raises(SpoolFull):
        await put_within(spool, [settled()], 20)
    spool.close()


async def test_a_slow_disk_costs_a_hook_its_wait_and_no_event(
    spool: SqliteSpool, path: Path
) -> None:
    await put_within(spool, [settled()], 20)
    with spool_lock(path):
        assert await put_within(spool, [settled(request_id=generation_id(2))], 0.02) is None
    wait_for(lambda: queued(path) == 2)
    assert spool.counters()["overrun"] == 1


async def test_the_loop_turns_while_the_disk_is_slow(spool: SqliteSpool, path: Path) -> None:
    turns = 0
    with spool_lock(path):
        hook = asyncio.create_task(put_within(spool, [settled()], 20))
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        assert not hook.done()
    assert await hook == ["queued"]
    assert turns == 100


async def test_a_user_who_hangs_up_does_not_undo_the_commit(spool: SqliteSpool, path: Path) -> None:
    with spool_lock(path):
        hook = asyncio.create_task(put_within(spool, [settled()], 20))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        hook.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hook
    wait_for(lambda: queued(path) == 1)


async def test_a_failure_after_the_wait_is_counted_and_disturbs_nobody(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = SqliteSpool(path, clock=SetClock(), settings=SpoolSettings(max_bytes=1))
    with spool_lock(path):
        assert await put_within(spool, [settled()], 0.02) is None
    wait_for(lambda: spool.counters().get("refused_full") == 1)
    await asyncio.sleep(0)
    gc.collect()
    assert [record.name for record in caplog.records] == ["owui_usage"]
    spool.close()


def test_everything_that_waits_is_one_transaction(
    spool: SqliteSpool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.put([settled()]).result(20)
    transactions: list[int] = []
    original = SpoolFile.writing

    @contextmanager
    def counting(file: SpoolFile, *, is_synced: bool) -> Iterator[object]:
        with original(file, is_synced=is_synced) as db:
            transactions.append(1)
            yield db

    monkeypatch.setattr(SpoolFile, "writing", counting)
    with spool_lock(path):
        waiting = [spool.put([settled(request_id=generation_id(n))]) for n in range(2, 202)]
    assert all(future.result(20) == ["queued"] for future in waiting)
    # The first may have been on its way alone; upkeep may have come in between.
    assert len(transactions) <= 3


def test_one_refused_put_does_not_harm_its_neighbours(path: Path) -> None:
    spool = SqliteSpool(path, clock=SetClock(), settings=SpoolSettings(max_bytes=200_000))
    spool.put([settled()]).result(20)
    many = [settled(request_id=generation_id(n)) for n in range(2, 1000)]
    with spool_lock(path):
        first = spool.put([settled(request_id="turn:a:1")])
        large = spool.put(many)
        last = spool.put([settled(request_id="turn:a:2")])
    assert first.result(20) == last.result(20) == ["queued"]
    with pytest.raises(SpoolFull):
        large.result(20)
    assert spool.status().queued == 3
    spool.close()


def test_a_disk_that_hangs_does_not_fill_the_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_writer, "_JOBS_WAITING_MAX", 10)
    spool = SqliteSpool(path, clock=SetClock())
    spool.put([settled()]).result(20)
    waiting: list[Future[list[PutOutcome]]] = []
    with spool_lock(path):
        # The writer holds what it took before the disk hung, and ten more may wait.
        while not (waiting and waiting[-1].done()):
            assert len(waiting) < 2000
            waiting.append(spool.put([settled(request_id=generation_id(len(waiting) + 2))]))
        refused = waiting.pop()
        assert isinstance(refused.exception(0), SpoolFull)
    assert all(future.result(20) == ["queued"] for future in waiting)
    assert spool.counters()["refused_backlog"] == 1
    spool.close()


def test_an_impatient_caller_cannot_cancel_a_commit(spool: SqliteSpool, path: Path) -> None:
    with spool_lock(path):
        future = spool.put([settled()])
        assert not future.cancel()
    assert future.result(20) == ["queued"]


def test_reading_starts_no_thread(path: Path) -> None:
    spool = SqliteSpool(path, clock=SetClock())
    spool.status()
    spool.take(10)
    assert writer_threads() == []


def test_a_dropped_spool_commits_what_waits_and_leaves_no_thread(path: Path) -> None:
    spool = SqliteSpool(path, clock=SetClock())
    with spool_lock(path):
        spool.track(pending())
        waiting = [spool.put([settled(request_id=generation_id(n))]) for n in range(50)]
        assert len(writer_threads()) == 1
        del spool
        gc.collect()
    wait_for(lambda: writer_threads() == [])
    assert all(future.result(0) == ["queued"] for future in waiting)
    assert queued(path) == 50


def test_closing_waits_no_longer_than_its_limit(path: Path) -> None:
    spool = SqliteSpool(path, clock=SetClock(), settings=SpoolSettings(close_seconds=0.02))
    spool.put([settled()]).result(20)
    with spool_lock(path):
        late = spool.put([settled(request_id=generation_id(2))])
        spool.close()
        assert not late.done()
    assert late.result(20) == ["queued"]
    wait_for(lambda: writer_threads() == [])


def test_two_generations_of_a_plugin_share_the_file(path: Path) -> None:
    old, new = SqliteSpool(path, clock=SetClock()), SqliteSpool(path, clock=SetClock())
    futures = [
        generation.put([settled(request_id=generation_id(n))])
        for n in range(200)
        for generation in (old, new)
    ]
    outcomes = [future.result(20)[0] for future in futures]
    assert sorted(outcomes) == ["duplicate"] * 200 + ["queued"] * 200
    old.close()
    assert new.put([settled(request_id="turn:a:b")]).result(20) == ["queued"]
    assert queued(path) == 201
    new.close()


def test_a_forked_child_writes_with_a_thread_of_its_own(spool: SqliteSpool, path: Path) -> None:
    spool.put([settled()]).result(20)
    child = os.fork()
    if child == 0:
        outcome = spool.put([settled(request_id=generation_id(2))]).result(20)
        spool.close()
        os._exit(0 if outcome == ["queued"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert spool.put([settled(request_id=generation_id(3))]).result(20) == ["queued"]
    assert queued(path) == 3


def test_what_waits_at_the_end_of_the_process_is_committed(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from shared.spool.sqlite_spool import SqliteSpool\n"
        "from tests.support.builders import generation_id, settled\n"
        "from tests.support.spools import SetClock\n"
        "spool = SqliteSpool(Path(sys.argv[1]), clock=SetClock())\n"
        "for n in range(300): spool.put([settled(request_id=generation_id(n))])\n"
    )
    subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, check=True, timeout=60)
    assert queued(path) == 300


def test_a_folder_that_cannot_be_made_is_an_error_on_the_future(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    spool = SqliteSpool(tmp_path / "taken" / "function.sqlite3", clock=SetClock())
    with pytest.raises(SpoolError, match="taken"):
        spool.put([settled()]).result(20)
    with pytest.raises(SpoolError):
        spool.status()
    assert spool.counters()["write_failed"] >= 1
    spool.close()
