"""What is rescued from a damaged spool file: the rows that it took before the damage showed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shared.core.event import event_from_json
from shared.errors import SpoolError
from shared.spool.damage import spool_text
from shared.spool.port import SpooledRow
from tests.support.builders import generation_id, settled
from tests.support.spool_files import merge_log, opened

PAGE = 4096
COUNT = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "function.sqlite3"


def fill(path: Path) -> list[SpooledRow]:
    """Queue rows on more than one page; the first one is put aside."""
    with opened(path) as spool:
        spool.put([settled(request_id=generation_id(n)) for n in range(COUNT)]).result(20)
        rows = spool.take(COUNT)
        spool.acknowledge(rejected=[(rows[0].row_id, "why not")])
    merge_log(path)
    return rows


def root_of(path: Path, name: str) -> int:
    """Return the number of the first page of a table or an index."""
    with closing(sqlite3.connect(path)) as file:
        return int(
            file.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
        )


def page_with(path: Path, text: str) -> int:
    """Return the number of the page that holds a text."""
    return path.read_bytes().index(text.encode()) // PAGE + 1


def overwrite(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xa5" * PAGE)


@pytest.mark.parametrize("name", ["digests", "digests_by_event", "rows_by_request"])
def test_no_row_is_lost_with_another_table_or_an_index(path: Path, name: str) -> None:
    rows = fill(path)
    overwrite(path, root_of(path, name))
    again, new = settled(request_id=generation_id(7)), settled(request_id=generation_id(COUNT))
    with opened(path) as spool:
        assert spool.put([again, new]).result(20) == ["duplicate", "queued"]
        *rescued, last = spool.take(COUNT + 1)
        assert rescued == rows[1:]
        assert event_from_json(last.json) == new
        assert [letter.message for letter in spool.dead_letters()] == ["why not"]
        counters = spool.status().counters
        assert (counters["corrupt_file"], counters["rescued"]) == (1, COUNT)


def test_rows_on_both_sides_of_the_damage_are_rescued(path: Path) -> None:
    rows = fill(path)
    overwrite(path, page_with(path, f'"request_id":"{generation_id(COUNT // 2)}"'))
    with opened(path) as spool:
        with pytest.raises(SpoolError, match="malformed"):
            spool.take(COUNT)
        rescued = spool.take(COUNT)
    assert COUNT - 10 < len(rescued) < COUNT - 1
    assert (rescued[0], rescued[-1]) == (rows[1], rows[-1])
    assert set(rescued) < set(rows)


def test_a_row_that_is_not_what_was_queued_stays_in_the_old_file(path: Path) -> None:
    fill(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(
            "UPDATE rows SET json = replace(json, ?, ?) WHERE row_id = 5",
            ('"input_tokens":9', '"input_tokens":8'),
        )
        file.execute("UPDATE rows SET json = CAST(x'7bba' AS TEXT) WHERE row_id = 6")
    merge_log(path)
    overwrite(path, root_of(path, "digests"))
    with opened(path) as spool:
        spool.put([settled()]).result(20)
        numbers = [row.row_id for row in spool.take(COUNT)]
    assert not {5, 6} & set(numbers)
    (aside,) = path.parent.glob("*.corrupt-*Z")
    with closing(sqlite3.connect(aside)) as file:
        file.text_factory = spool_text
        kept = file.execute("SELECT count(*) FROM rows WHERE row_id IN (5, 6)").fetchone()
    assert kept == (2,)


def test_a_late_acknowledgement_hits_no_row_of_the_new_file(path: Path) -> None:
    """A delivery that began in the old file ends after the new one was begun."""
    rows = fill(path)
    path.write_bytes(b"\xa5" * path.stat().st_size)
    with opened(path) as spool:
        new = [settled(request_id=generation_id(1000 + n)) for n in range(COUNT)]
        assert spool.put(new).result(20) == ["queued"] * COUNT
        spool.acknowledge(accepted=[row.row_id for row in rows])
        assert len(spool.take(2 * COUNT)) == COUNT
        assert "rescued" not in spool.status().counters
