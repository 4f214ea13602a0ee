"""The breaker opens, tries again and closes at the right moments."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.breaker import Breaker
from tests.support.builders import NOON

HALF_A_MINUTE = timedelta(seconds=30)


def opened() -> Breaker:
    return Breaker().after_failure(NOON).after_failure(NOON).after_failure(NOON)


def test_it_stays_closed_below_three_failures_in_a_row() -> None:
    breaker = Breaker().after_failure(NOON).after_failure(NOON)
    assert breaker.state(NOON) == "closed"
    assert breaker.after_success().after_failure(NOON).after_failure(NOON).state(NOON) == "closed"


def test_it_opens_at_the_third_failure_in_a_row() -> None:
    assert opened().state(NOON) == "open"
    assert not opened().allows(NOON)


def test_it_lets_a_delivery_try_after_thirty_seconds() -> None:
    assert not opened().allows(NOON + HALF_A_MINUTE - timedelta(milliseconds=1))
    assert opened().state(NOON + HALF_A_MINUTE) == "half_open"
    assert opened().allows(NOON + HALF_A_MINUTE)


def test_it_closes_after_two_successes() -> None:
    later = NOON + HALF_A_MINUTE
    once = opened().after_success()
    assert once.state(later) == "half_open"
    assert once.after_success() == Breaker()


def test_one_failure_reopens_a_half_open_breaker_for_as_long_again() -> None:
    later = NOON + HALF_A_MINUTE
    reopened = opened().after_success().after_failure(later)
    assert not reopened.allows(later + HALF_A_MINUTE - timedelta(milliseconds=1))
    assert reopened.after_success().state(later + HALF_A_MINUTE) == "half_open"


def test_a_clock_that_was_set_back_does_not_keep_it_open() -> None:
    assert opened().state(NOON - timedelta(days=1)) == "half_open"


@given(st.lists(st.sampled_from(["success", "failure", "wait"]), max_size=60))
def test_it_agrees_with_a_plain_count_whatever_happens(steps: list[str]) -> None:
    breaker, now = Breaker(), NOON
    failures = successes = 0
    opened_at = None
    for step in steps:
        if step == "wait":
            now += timedelta(seconds=11)
        elif step == "success":
            breaker = breaker.after_success()
            failures = 0
            successes += opened_at is not None
            if successes == 2:
                opened_at, successes = None, 0
        else:
            breaker = breaker.after_failure(now)
            failures, successes = failures + 1, 0
            if failures == 3 or opened_at is not None:
                opened_at, failures = now, 0
        is_open = opened_at is not None and now - opened_at < HALF_A_MINUTE
        assert breaker.allows(now) is not is_open
