"""The spool's file on disk: its mode, its age, its damage and its end."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from shared.core.event import event_from_json
from shared.core.rows import HostRow
from shared.errors import InvalidEvent, SpoolError
from shared.spool.sqlite_spool import SpoolSettings, SqliteSpool
from tests.conftest import ROOT
from tests.support.builders import NOON, generation_id, settled
from tests.support.spool_files import merge_log, opened
from tests.support.spools import SetClock
from tests.support.waiting import wait_for


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "function.sqlite3"


def run_sql(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(script)


def number_of(path: Path, pragma: str) -> int:
    with closing(sqlite3.connect(path)) as file:
        return int(file.execute(f"PRAGMA {pragma}").fetchone()[0])


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def test_the_files_are_private(path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(path) as spool:
            spool.put([settled()]).result(20)
            found = modes(path.parent)
    finally:
        os.umask(before)
    assert found == dict.fromkeys(
        ["function.sqlite3", "function.sqlite3-wal", "function.sqlite3-shm", path.name + ".lock"],
        0o600,
    )


def test_a_shared_folder_shares_the_files_with_its_group(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    before = os.umask(0o077)
    try:
        with opened(shared / "usage" / "function.sqlite3") as spool:
            spool.put([settled()]).result(20)
            found = modes(shared / "usage")
    finally:
        os.umask(before)
    assert set(found.values()) == {0o660}
    assert len(found) == 4
    assert stat.S_IMODE((shared / "usage").stat().st_mode) == 0o2770


def test_the_file_has_a_log_and_gives_space_back(path: Path) -> None:
    with opened(path) as spool:
        spool.put([settled()]).result(20)
        assert number_of(path, "auto_vacuum") == 2
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_empty_file_becomes_a_spool(path: Path) -> None:
    path.touch()
    with opened(path) as spool:
        assert spool.put([settled()]).result(20) == ["queued"]


def test_a_corrupt_file_is_kept_and_a_new_one_begun(path: Path) -> None:
    path.write_bytes(b"no database at all, but surely longer than a header" * 100)
    with opened(path) as spool:
        assert spool.put([settled()]).result(20) == ["queued"]
        assert spool.status().counters["corrupt_file"] == 1
    (aside,) = path.parent.glob("*.corrupt-*")
    assert aside.name == "function.sqlite3.corrupt-20261124T120000000000Z"
    assert aside.read_bytes().startswith(b"no database at all")


def damage(path: Path) -> None:
    """Overwrite everything behind the first page, as a failing disk might."""
    merge_log(path)
    size = path.stat().st_size
    with path.open("r+b") as file_:
        file_.seek(4096)
        file_.write(b"\xa5" * (size - 4096))


def fill(path: Path) -> None:
    with opened(path) as spool:
        spool.put([settled(request_id=generation_id(n)) for n in range(100)]).result(20)


def test_damage_behind_the_header_loses_no_new_event(path: Path) -> None:
    fill(path)
    damage(path)
    with opened(path) as spool:
        assert spool.put([settled()]).result(20) == ["queued"]
        assert spool.status().queued == 1
    assert len(list(path.parent.glob("*.corrupt-*Z"))) == 1


def test_damage_that_only_a_reader_meets_is_found_as_well(path: Path) -> None:
    fill(path)
    damage(path)
    with opened(path) as spool:
        with pytest.raises(SpoolError, match="malformed"):
            spool.take(10)
        assert spool.take(10) == []
        assert spool.status().counters["corrupt_file"] == 1


def test_a_schema_whose_letters_are_damaged_loses_no_new_event(path: Path) -> None:
    fill(path)
    run_sql(
        path,
        "PRAGMA writable_schema = 1; UPDATE sqlite_master SET name = CAST(x'726fba' AS TEXT),"
        " sql = 'CREATE' WHERE name = 'rows'",
    )
    with opened(path) as spool:
        assert spool.put([settled()]).result(20) == ["queued"]
        assert [event_from_json(row.json) for row in spool.take(10)] == [settled()]
    assert len(list(path.parent.glob("*.corrupt-*Z"))) == 1


def test_a_row_whose_letters_are_damaged_is_refused_alone(path: Path) -> None:
    with opened(path) as spool:
        spool.put([settled(request_id=generation_id(n)) for n in range(3)]).result(20)
        run_sql(
            path,
            "UPDATE rows SET json = CAST(replace(CAST(json AS BLOB), 'model', x'6d6fba656c')"
            " AS TEXT) WHERE row_id = 2",
        )
        whole, damaged, other = spool.take(10)
        assert [event_from_json(row.json).request_id for row in (whole, other)] == [
            generation_id(0),
            generation_id(2),
        ]
        with pytest.raises(InvalidEvent):
            event_from_json(damaged.json)
        spool.acknowledge(rejected=[(damaged.row_id, "no JSON")])
        (letter,) = spool.dead_letters()
        assert json.loads(letter.to_line())["row"] == damaged.json


def test_others_follow_to_the_new_file_when_one_sets_a_corrupt_one_aside(path: Path) -> None:
    with opened(path) as alice, opened(path) as bob:
        alice.put([settled(request_id=generation_id(1))]).result(20)
        bob.put([settled(request_id=generation_id(2))]).result(20)
        damage(path)
        with pytest.raises(SpoolError, match="malformed"):
            bob.take(10)
        assert alice.put([settled(request_id=generation_id(3))]).result(20) == ["queued"]
        assert bob.put([settled(request_id=generation_id(4))]).result(20) == ["queued"]
        found = [event_from_json(row.json).request_id for row in alice.take(10)]
        assert found == [generation_id(3), generation_id(4)]
    # Both left the old file without harm to the new one's log.
    with opened(path) as spool:
        assert spool.status().queued == 2


def test_a_file_that_was_removed_is_made_anew(path: Path) -> None:
    with opened(path) as spool:
        spool.put([settled()]).result(20)
        path.unlink()
        assert spool.put([settled()]).result(20) == ["queued"]
        assert spool.status().queued == 1


def test_old_digests_go_and_younger_ones_stay(path: Path) -> None:
    clock = SetClock()
    spool = SqliteSpool(path, clock=clock)
    old = [settled(request_id=generation_id(n)) for n in range(1200)]
    spool.put(old).result(20)
    spool.acknowledge(accepted=[row.row_id for row in spool.take(5000)])
    clock.move(34 * 86_400)
    young = settled(request_id=generation_id(5000))
    spool.put([young]).result(20)
    spool.acknowledge(accepted=[row.row_id for row in spool.take(5000)])
    spool.close()
    clock.move(2 * 86_400)
    spool = SqliteSpool(path, clock=clock)
    assert spool.put([young]).result(20) == ["duplicate"]
    with closing(sqlite3.connect(path)) as file:
        wait_for(lambda: file.execute("SELECT count(*) FROM digests").fetchone() == (1,))
    assert spool.put([young, old[0]]).result(20) == ["duplicate", "queued"]
    spool.close()


def test_delivered_rows_give_their_space_back_to_the_disk(path: Path) -> None:
    with opened(path, SpoolSettings(refresh_seconds=0.01)) as spool:
        for start in range(0, 6000, 1000):
            events = [settled(request_id=generation_id(start + n)) for n in range(1000)]
            spool.put(events).result(20)
        full = number_of(path, "page_count")
        while rows := spool.take(1000):
            spool.acknowledge(accepted=[row.row_id for row in rows])
        wait_for(lambda: number_of(path, "page_count") < full / 2)
        assert spool.status().size_bytes < full * 4096 / 2


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from shared.spool.sqlite_spool import SqliteSpool
from shared.errors import SpoolError
from tests.support.builders import generation_id, settled
from tests.support.spool_files import merge_log, opened
from tests.support.spools import SetClock

resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
spool = SqliteSpool(Path(sys.argv[1]), clock=SetClock())
safe, refused = [], []
for number in range(3000):
    event = settled(request_id=generation_id(number))
    try:
        spool.put([event]).result(20)
        safe.append(event.event_id)
    except SpoolError as error:
        refused.append(event.event_id)
        message = str(error)
        if len(refused) == 20:
            break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
later = [spool.put([settled(request_id=generation_id(number))]).result(20)[0]
         for number in range(len(safe) + len(refused))]
print(json.dumps({"safe": safe, "refused": refused, "message": message, "later": later,
                  "failed": spool.counters()["write_failed"]}))
"""


def test_a_full_disk_refuses_events_and_forgets_none(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert len(found["safe"]) > 10
    assert len(found["refused"]) == 20
    assert found["failed"] >= 20
    assert "function.sqlite3: " in found["message"]
    # What was refused is not marked as seen, what was safe is.
    assert found["later"].count("queued") == 20
    assert found["later"].count("duplicate") == len(found["safe"])
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        there = [event_id for (event_id,) in file.execute("SELECT lower(hex(event_id)) FROM rows")]
    assert sorted(there) == sorted(found["safe"] + found["refused"])


def host(minute: int) -> HostRow:
    return HostRow(
        host_id="host-1",
        occurred_at=NOON + timedelta(minutes=minute),
        host_kind="function",
        version="1.0",
        started_at=NOON,
    )


def test_a_host_row_leaves_no_digest(path: Path) -> None:
    def digests() -> int:
        with closing(sqlite3.connect(path)) as file:
            return int(file.execute("SELECT count(*) FROM digests").fetchone()[0])

    with opened(path) as spool:
        for minute in range(3):
            spool.put([host(minute)]).result(20)
        spool.put([settled()]).result(20)
        assert digests() == 1
        newest, event = spool.take(10)
        assert (newest.kind, event.kind) == ("host", "usage")
        spool.acknowledge(accepted=[newest.row_id, event.row_id])
        assert digests() == 1


def test_hosts_that_are_long_gone_are_forgotten(path: Path) -> None:
    with opened(path) as spool:
        spool.put([host(0)]).result(20)
    clock = SetClock(NOON + timedelta(days=36))
    spool = SqliteSpool(path, clock=clock)
    spool.put([settled()]).result(20)
    wait_for(lambda: spool.hosts() == [])
    spool.close()
