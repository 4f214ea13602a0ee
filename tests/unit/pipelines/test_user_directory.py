"""The names of users: news when they change, also back, and not every day."""

from datetime import timedelta

import pytest

from pipelines.src.user_directory import UserDirectory
from shared.core.rows import UserRow
from tests.support.builders import ALICE, NOON

DAY = timedelta(days=1)


def seen(**fields: object) -> UserRow:
    return UserRow.model_validate({"user_id": ALICE, "occurred_at": NOON, "name": "A"} | fields)


def test_a_name_that_a_user_comes_back_to_on_another_day_is_another_row() -> None:
    rows = [seen(), seen(name="B", occurred_at=NOON + DAY), seen(occurred_at=NOON + 2 * DAY)]
    assert len({row.event_id for row in rows}) == 3


def test_a_name_seen_again_on_the_same_day_is_the_same_row() -> None:
    assert seen().event_id == seen(occurred_at=NOON + DAY / 2 - timedelta(milliseconds=1)).event_id


@pytest.mark.parametrize("change", [{"name": "B"}, {"email": "a@example.org"}, {"user_id": "b"}])
def test_another_name_address_or_user_is_another_row(change: dict[str, str]) -> None:
    assert seen().event_id != seen(**change).event_id


def test_the_directory_names_a_user_once_however_many_days_pass() -> None:
    directory = UserDirectory()
    alice = {"id": ALICE, "name": "Alice", "email": "alice@example.org"}
    days = [directory.row(alice, NOON + number * DAY) for number in range(3)]
    assert [row is not None for row in days] == [True, False, False]


def test_the_directory_names_a_user_again_when_a_name_changes_and_changes_back() -> None:
    directory = UserDirectory()
    names = ["Alice", "Bob", "Bob", "Alice"]
    rows = [directory.row({"id": ALICE, "name": name}, NOON + DAY) for name in names]
    assert [row.name if row else None for row in rows] == ["Alice", "Bob", None, "Alice"]
