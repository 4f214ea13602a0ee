"""Real processes on one spool file: killed at any moment, doubling each other's events."""

import random
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

from shared.spool.sqlite_spool import SqliteSpool
from tests.conftest import ROOT
from tests.support.spools import SetClock
from tests.support.waiting import wait_for

PROCESSES = 4


class Worker:
    """A process that puts a range of events and reports which of them are safe."""

    def __init__(self, path: Path, first: int, count: int) -> None:
        self.safe: list[tuple[str, str]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.spool_worker", path, str(first), str(count)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def kill_after(self, events: int) -> None:
        """Kill the process (SIGKILL) once it has reported so many, or has ended."""
        wait_for(lambda: len(self.safe) >= events or self.process.poll() is not None, 60)
        self.process.kill()
        self.end()

    def end(self) -> None:
        self.process.wait(60)
        self._reader.join(60)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.endswith("\n"):
                    event_id, outcome = line.split()
                    self.safe.append((event_id, outcome))


class Drain:
    """A delivery in this process, at the same time: takes rows and acknowledges them."""

    def __init__(self, spool: SqliteSpool) -> None:
        self.delivered: Counter[str] = Counter()
        self._spool = spool
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            rows = self._spool.take(200)
            self._spool.acknowledge(accepted=[row.row_id for row in rows])
            self.delivered.update(row.event_id for row in rows)


def content(path: Path) -> Counter[str]:
    """Return every event that is queued or was delivered, and check the file itself."""
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = file.execute(
            "SELECT lower(hex(event_id)) FROM rows"
            " UNION ALL SELECT lower(hex(event_id)) FROM digests WHERE is_delivered"
        )
        return Counter(event_id for (event_id,) in found)


def kill_four(path: Path, chance: random.Random) -> set[str]:
    """Kill four processes in the middle of their work; return what they reported as safe."""
    # Ranges overlap, and every process dies long before its end.
    workers = [Worker(path, first=200 * number, count=2000) for number in range(PROCESSES)]
    killers = [
        threading.Thread(target=worker.kill_after, args=(chance.randrange(1, 120),))
        for worker in workers
    ]
    for killer in killers:
        killer.start()
    for killer in killers:
        killer.join(120)
    assert [worker.process.returncode for worker in workers] == [-9] * PROCESSES
    return {event_id for worker in workers for event_id, _ in worker.safe}


def test_what_was_reported_safe_survives_sigkill_exactly_once(tmp_path: Path) -> None:
    path = tmp_path / "function.sqlite3"
    chance = random.Random(20261124)
    clock = SetClock()
    spool = SqliteSpool(path, clock=clock)
    drain = Drain(spool)
    reported = set().union(*(kill_four(path, chance) for _ in range(3)))
    drain.stop()
    there = content(path)
    assert len(reported) > PROCESSES
    assert reported - there.keys() == set()
    assert set(there.values()) == {1}
    assert set(drain.delivered.values()) == {1}
    assert drain.delivered.keys() <= there.keys()
    # What the killed processes had begun and not booked becomes pending, each once.
    begun = spool.status().open_generations
    clock.move(1000)
    assert spool.lease("alice", 30)
    assert spool.expire_open(clock.now(), 120) == begun
    assert spool.status().open_generations == 0
    after = content(path)
    assert after.total() == there.total() + begun
    assert set(after.values()) == {1}
    spool.close()


def test_the_same_events_from_four_processes_are_queued_once(tmp_path: Path) -> None:
    path = tmp_path / "function.sqlite3"
    workers = [Worker(path, first=0, count=150) for _ in range(PROCESSES)]
    for worker in workers:
        worker.end()
    assert [worker.process.returncode for worker in workers] == [0] * PROCESSES
    outcomes = Counter(outcome for worker in workers for _, outcome in worker.safe)
    assert outcomes == {"queued": 150, "duplicate": 450}
    assert set(content(path).values()) == {1}
    spool = SqliteSpool(path, clock=SetClock())
    status = spool.status()
    assert (status.queued, status.open_generations) == (150, 0)
    assert status.counters["duplicate"] == 450
    spool.close()
