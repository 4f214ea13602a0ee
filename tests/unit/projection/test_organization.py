"""Attribution: who pays for an event, at which rate."""

from datetime import date, datetime, timedelta

from shared.projection.organization import Assignment, Directory, MarkupRate
from tests.support.builders import ALICE, BOB, NOON
from tests.support.ledger import DEFAULTS, TOKYO, WARSAW, organization

SECOND = timedelta(seconds=1)


def moved(user: str, organization_id: str | None, at: datetime) -> Assignment:
    return Assignment(
        assignment_id=1, external_user=user, organization_id=organization_id, valid_from=at
    )


def directory(*moves: Assignment, rates: tuple[MarkupRate, ...] = ()) -> Directory:
    known = {"acme": organization("acme"), "edo": organization("edo", time_zone=TOKYO)}
    return Directory(known, rates, moves, DEFAULTS)


def test_without_an_assignment_the_host_decides() -> None:
    assert directory().organization_of(ALICE, "acme", NOON) == "acme"


def test_an_assignment_counts_from_its_instant_until_the_next() -> None:
    moves = directory(moved(ALICE, "edo", NOON + 60 * SECOND), moved(ALICE, "acme", NOON))
    seen = [
        moves.organization_of(ALICE, "unassigned", NOON + step * SECOND) for step in (-1, 0, 59, 60)
    ]
    assert seen == ["unassigned", "acme", "acme", "edo"]
    assert moves.organization_of(BOB, "unassigned", NOON) == "unassigned"


def test_an_assignment_to_nothing_gives_the_decision_back_to_the_host() -> None:
    moves = directory(moved(ALICE, "acme", NOON), moved(ALICE, None, NOON + SECOND))
    assert moves.organization_of(ALICE, "edo", NOON + SECOND) == "edo"


def test_a_rate_counts_from_its_day_on_and_the_default_before() -> None:
    dated = directory(
        rates=(
            MarkupRate("acme", date(2026, 12, 1), 2_000_000),
            MarkupRate("acme", date(2026, 11, 1), 1_500_000),
        )
    )
    days = (date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 30), date(2026, 12, 1))
    rates = [dated.rate_ppm("acme", day) for day in days]
    assert rates == [1_300_000, 1_500_000, 1_500_000, 2_000_000]
    assert dated.rate_ppm("nobody", days[0]) == 1_300_000


def test_an_organization_that_nobody_added_has_the_defaults() -> None:
    stranger = directory().organization("stranger")
    assert (stranger.name, stranger.time_zone, stranger.currency) == ("stranger", WARSAW, "USD")


def test_the_default_zone_has_days_even_when_no_organization_lives_there() -> None:
    only_tokyo = Directory({"edo": organization("edo", time_zone=TOKYO)}, (), (), DEFAULTS)
    assert only_tokyo.zones() == [TOKYO, WARSAW]


def test_only_moves_strictly_inside_a_span_split_it() -> None:
    moves = directory(*(moved(ALICE, "acme", NOON + step * SECOND) for step in (0, 1, 2)))
    assert moves.moves_between(NOON, NOON + 2 * SECOND) == [NOON + SECOND]


def test_two_directories_agree_unless_something_is_billed_differently() -> None:
    before = directory()
    added = {**before.organizations, "new": organization("new", name="new")}
    with_rate = [MarkupRate("new", date(1970, 1, 1), DEFAULTS.rate_ppm)]
    assert Directory(added, with_rate, (), DEFAULTS).agrees_with(before, ["new"])
    elsewhere = {**before.organizations, "new": organization("new", name="new", time_zone=TOKYO)}
    assert not Directory(elsewhere, with_rate, (), DEFAULTS).agrees_with(before, ["new"])
    assert not directory(moved(ALICE, "acme", NOON)).agrees_with(before, [])
    dearer = (MarkupRate("acme", date(2026, 1, 1), 2_000_000),)
    assert not directory(rates=dearer).agrees_with(before, [])
