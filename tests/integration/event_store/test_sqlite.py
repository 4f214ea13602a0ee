"""The embedded store's file: older, newer, damaged, gone, and used by many at once."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest

from shared.errors import ConfigError, DeliveryError, Misconfigured, Unavailable
from shared.event_store.port import Window
from shared.event_store.sqlite.schema import MIGRATIONS, connect
from shared.event_store.sqlite.store import EmbeddedStore
from tests.support.builders import NOON, generation_id, settled
from tests.support.spools import spooled

WINDOW = Window(NOON, NOON + timedelta(hours=1))


def test_events_are_there_after_the_file_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "what? a #name.sqlite3"
    with closing(EmbeddedStore(path)) as store:
        store.write(spooled([settled()]))
    with closing(EmbeddedStore(path)) as store:
        assert list(store.events(WINDOW)) == [settled()]


def test_what_was_accepted_survives_a_power_loss(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "s.sqlite3", "rwc")) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_file_of_a_later_version_is_refused_with_the_name_of_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "later.sqlite3"
    EmbeddedStore(path).close()
    with closing(sqlite3.connect(path)) as later:
        later.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    with pytest.raises(ConfigError, match="USAGE_STORE_PATH: was written by a later version"):
        EmbeddedStore(path)


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Alice, " * 1000)
    with pytest.raises(Misconfigured, match=r"letter\.txt"):
        EmbeddedStore(path)
    assert path.read_text() == "Dear Alice, " * 1000


def test_a_folder_in_the_place_of_the_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open"):
        EmbeddedStore(tmp_path)


def test_a_file_that_went_away_is_no_empty_store(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite3"
    with closing(EmbeddedStore(path)) as store:
        store.write(spooled([settled()]))
        path.unlink()
        with pytest.raises(DeliveryError):
            list(store.events(WINDOW))
        assert not store.health().ok
        assert not path.exists()


def test_a_write_that_fails_in_the_middle_stores_nothing(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path / "s.sqlite3")) as store:
        with closing(connect(tmp_path / "s.sqlite3")) as other:
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON events WHEN new.external_user = 'bob-id' "
                "BEGIN SELECT RAISE(FAIL, 'disk full'); END"
            )
        rows = [settled(request_id=generation_id(1)), settled(external_user="bob-id")]
        with pytest.raises(DeliveryError, match="disk full"):
            store.write(spooled(rows))
        assert list(store.events(WINDOW)) == []
        assert store.write(spooled(rows[:1])).accepted == [0]


def test_a_reading_sees_one_state_while_rows_are_written(tmp_path: Path) -> None:
    events = [settled(request_id=generation_id(n)) for n in range(200)]
    with closing(EmbeddedStore(tmp_path / "s.sqlite3")) as store:
        store.write(spooled(events[:100]))
        reading = store.events(WINDOW)
        first = next(reading)
        store.write(spooled(events[100:]))
        assert len([first, *reading]) == 100
        assert len(list(store.events(WINDOW))) == 200


def test_many_threads_write_and_read_at_once(tmp_path: Path) -> None:
    together = Barrier(4)

    def work(number: int) -> int:
        together.wait(10)
        for part in range(10):
            ids = range(number * 100 + part * 10, number * 100 + part * 10 + 10)
            store.write(spooled([settled(request_id=generation_id(n)) for n in ids]))
            store.fingerprints(WINDOW)
        return len(list(store.events(WINDOW)))

    with closing(EmbeddedStore(tmp_path / "s.sqlite3")) as store, ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(work, range(4)))
        assert all(100 <= count <= 400 for count in seen)
        assert store.usage(WINDOW)[0].amounts.events == 400


def test_a_row_that_cannot_be_read_any_more_fails_its_reading(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path / "s.sqlite3")) as store:
        store.write(spooled([settled()]))
        with closing(connect(tmp_path / "s.sqlite3")) as other:
            other.execute("UPDATE events SET json = '{}'")
        with pytest.raises(Misconfigured, match="holds a row that cannot be read"):
            list(store.events(WINDOW))
