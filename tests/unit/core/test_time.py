"""Instants as whole milliseconds and seconds of UTC."""

from datetime import datetime, timedelta

import pytest

from shared.core.time import EPOCH, from_ms, to_ms, whole_second
from shared.errors import ConfigError
from tests.support.builders import NOON


def test_an_instant_is_a_count_of_milliseconds_rounded_down() -> None:
    assert to_ms(EPOCH + timedelta(microseconds=1999)) == 1
    assert to_ms(EPOCH - timedelta(microseconds=1)) == -1
    assert from_ms(to_ms(NOON)) == NOON


def test_an_assignment_begins_with_a_whole_second_of_utc() -> None:
    assert whole_second(NOON.replace(microsecond=999_999)) == NOON
    with pytest.raises(ConfigError, match="needs a time zone"):
        whole_second(datetime(2026, 11, 24, 12))  # noqa: DTZ001 - that is the point
