"""Where an event stands in a store that keeps one event per nanosecond."""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.ids import has_store_time, point_time_ns
from shared.core.time import EPOCH, to_ms
from tests.support.builders import NOON, NOON_SECONDS, generation_id

EVENT_ID = "e625271a5b2cdea7c4248cd93ff48819"
SPREAD = int.from_bytes(blake2b(EVENT_ID.encode(), digest_size=8).digest(), "big")
TIMES = st.integers(0, 9_223_286_400_000).map(lambda ms: EPOCH + timedelta(milliseconds=ms))


def test_an_id_with_seconds_spreads_events_over_its_second() -> None:
    assert point_time_ns(EVENT_ID, generation_id(), NOON) == NOON_SECONDS * 10**9 + SPREAD % 10**9


def test_an_id_without_seconds_spreads_events_over_their_millisecond() -> None:
    at = NOON + timedelta(milliseconds=250)
    place = point_time_ns(EVENT_ID, "turn:chat-1:message-1", at)
    assert place == NOON_SECONDS * 10**9 + 250 * 10**6 + SPREAD % 10**6


def test_a_time_that_is_not_that_of_the_id_wins_over_it() -> None:
    late = NOON + timedelta(hours=30, milliseconds=1)
    assert (
        point_time_ns(EVENT_ID, generation_id(), late) // 10**6
        == (NOON_SECONDS + 108_000) * 1000 + 1
    )


@settings(max_examples=150)
@given(
    at=TIMES, request_id=st.sampled_from([generation_id(), "turn:a:b"]), offset=st.integers(0, 9)
)
def test_an_event_never_leaves_its_millisecond_by_moving(
    at: datetime, request_id: str, offset: int
) -> None:
    places = {point_time_ns(EVENT_ID, request_id, at, step) for step in range(offset + 1)}
    assert len(places) == offset + 1
    span = 10**9 if request_id.startswith("gen-") and at == NOON else 10**6
    milliseconds = to_ms(at)
    assert {place // span for place in places} == {milliseconds * 10**6 // span}


def test_moving_wraps_around_at_the_end_of_the_span() -> None:
    steps = 10**6 - SPREAD % 10**6
    assert point_time_ns(EVENT_ID, "turn:a:b", NOON, steps) == NOON_SECONDS * 10**9


def test_times_beyond_64_bits_of_nanoseconds_have_no_place_of_their_own() -> None:
    before, after = datetime(1969, 12, 31, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC)
    assert not has_store_time(before)
    assert not has_store_time(after)
    assert has_store_time(NOON)
    for at in (before, after):
        assert 0 <= point_time_ns(EVENT_ID, "turn:a:b", at) < 10**6
