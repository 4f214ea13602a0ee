"""Reconciling a day of the original system: exact, or refused with the figures."""

from dataclasses import replace
from datetime import date
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from migration_tools.sources.legacy.day import Rules, Split, split_day
from migration_tools.sources.legacy.rows import REQUESTS_MAX, LegacyDay, Portion

USD = 10**12


def portion(name: str, requests: int = 1, tokens: int = 10, pico: int = USD) -> Portion:
    return Portion(name=name, requests=requests, tokens=tokens, pico=pico)


def day(**sides: Any) -> LegacyDay:
    return LegacyDay("acme", date(2025, 1, 1), **sides)


def by(split: Split, name: str) -> dict[str, tuple[int, int, int]]:
    sums: dict[str, tuple[int, int, int]] = {}
    for cell in split.cells:
        old = sums.get(getattr(cell, name), (0, 0, 0))
        new = (cell.requests, cell.tokens, cell.pico)
        sums[getattr(cell, name)] = (old[0] + new[0], old[1] + new[1], old[2] + new[2])
    return sums


def test_two_marginals_of_the_same_money_both_come_out_exact_and_are_marked() -> None:
    split = split_day(
        day(
            total=[portion("", 10, 100, 10 * USD + 1)],
            users=[portion("alice", 7, 61, 3 * USD), portion("bob", 3, 39, 7 * USD + 1)],
            models=[portion("gpt", 4, 50, USD), portion("claude", 6, 50, 9 * USD + 1)],
        ),
        Rules(),
    )
    assert by(split, "user") == {"alice": (7, 61, 3 * USD), "bob": (3, 39, 7 * USD + 1)}
    assert by(split, "model") == {"claude": (6, 50, 9 * USD + 1), "gpt": (4, 50, USD)}
    assert all(cell.is_apportioned for cell in split.cells)
    assert not split.refused


def test_a_day_of_one_person_needs_no_apportioning() -> None:
    split = split_day(
        day(users=[portion("alice", 2, 20)], models=[portion("gpt"), portion("claude", pico=0)]),
        Rules(),
    )
    assert not any(cell.is_apportioned for cell in split.cells)


def test_a_day_whose_tables_disagree_is_refused_with_the_figures() -> None:
    sides = {"total": [portion("", 2, 20)], "users": [portion("alice", 2, 21)]}
    refused = split_day(day(**sides), Rules())
    assert refused.refused == (
        "the day says 2 requests, 20 tokens, 1 USD, its users say 2 requests, 21 tokens, 1 USD"
    )
    assert not refused.cells


def test_an_accepted_difference_takes_the_day_and_the_side_that_agrees_with_it() -> None:
    split = split_day(
        day(
            total=[portion("", 2, 20)],
            users=[portion("alice", 2, 21)],
            models=[portion("gpt", 2, 20)],
        ),
        Rules(accept_differences=True),
    )
    assert by(split, "user") == {"unknown": (2, 20, USD)}
    assert by(split, "model") == {"gpt": (2, 20, USD)}
    assert "21 tokens" in split.notes[0]


def test_noise_of_adding_floats_is_no_difference_and_a_microdollar_is_one() -> None:
    sides = {"total": [portion("", 1000, 10, 100 * USD)]}
    noisy = split_day(day(**sides, users=[portion("alice", 1000, 10, 100 * USD + 20)]), Rules())
    assert by(noisy, "user") == {"alice": (1000, 10, 100 * USD)}
    wrong = split_day(day(**sides, users=[portion("alice", 1000, 10, 100 * USD + 10**6)]), Rules())
    assert wrong.refused


def test_raw_cost_that_holds_the_markup_is_refused_with_the_ratio_until_a_person_says_so() -> None:
    found = day(
        total=[portion("", 2, 20, 13 * USD)],
        users=[portion("alice", 1, 10, 4 * USD), portion("bob", 1, 10, 9 * USD)],
        generations=[portion("gen-1", pico=4 * USD), portion("gen-2", pico=6 * USD)],
    )
    rules = Rules(rate_ppm=1_300_000)
    assert "1.300000 times" in str(split_day(found, rules).refused)
    split = split_day(found, replace(rules, raw_includes_markup=True))
    assert sum(cell.pico for cell in split.cells) == 10 * USD


def test_people_pay_what_they_paid_to_the_last_digit_when_the_markup_is_taken_out() -> None:
    total = portion("", 3, 30, 1_143_095_182_226)
    people = [
        portion("alice", pico=922_126_200_135),
        portion("bob", pico=220_968_435_425),
        portion("charlie", pico=546_667),
    ]
    rules = Rules(raw_includes_markup=True, rate_ppm=1_333_333)
    split = split_day(day(total=[total], users=people), rules)
    assert {cell.user: cell.pico for cell in split.cells} == {
        "alice": 691_594_823_000,
        "bob": 165_726_368_000,
        "charlie": 410_000,
    }


def test_the_markup_is_not_taken_out_of_a_raw_cost_that_does_not_hold_it() -> None:
    found = day(total=[portion("", 1)], generations=[portion("gen-1")])
    split = split_day(found, Rules(raw_includes_markup=True, rate_ppm=1_300_000))
    assert "does not include the markup" in str(split.refused)


def test_a_damaged_row_refuses_its_day() -> None:
    found = replace(day(total=[portion("")]), damaged=["users bob: cost -1 is negative"])
    assert split_day(found, Rules()).refused == "users bob: cost -1 is negative"


def test_a_day_known_by_its_generations_alone_keeps_every_one_of_them() -> None:
    split = split_day(day(generations=[portion("gen-1"), portion("gen-2")]), Rules())
    assert [each.name for each in split.generations] == ["gen-1", "gen-2"]


REQUESTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 999),
              st.integers(0, 10**13)),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=150)
@given(REQUESTS)
def test_any_day_of_requests_keeps_people_models_and_money(
    requests: list[tuple[str, str, int, int]],
) -> None:
    def side(column: int | None) -> list[Portion]:
        names = {request[column] if column is not None else "" for request in requests}
        picked = [
            (str(name), [each for each in requests if column is None or each[column] == name])
            for name in sorted(map(str, names))
        ]
        return [
            portion(name, len(rows), sum(each[2] for each in rows), sum(each[3] for each in rows))
            for name, rows in picked
        ]

    found = day(total=side(None), users=side(0), models=side(1))
    assert_exact(split_day(found, Rules()), found)


def assert_exact(split: Split, found: LegacyDay) -> None:
    assert not split.refused and not split.notes
    for name, side in (("user", found.users), ("model", found.models)):
        said = {each.name: (each.requests, each.tokens, each.pico) for each in side}
        assert by(split, name) == {name: sums for name, sums in said.items() if any(sums)}


@st.composite
def margins(draw: st.DrawFn) -> LegacyDay:
    """Draw a thin day whose sides agree in their sums and in nothing else."""
    people, models = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    totals = [draw(st.integers(0, most)) for most in (6, 99, 10**13)]

    def side(width: int) -> list[Portion]:
        columns = [draw(shares(total, width)) for total in totals]
        return [
            portion(f"name-{at}", *amounts) for at, amounts in enumerate(zip(*columns, strict=True))
        ]

    return day(total=[portion("", *totals)], users=side(people), models=side(models))


def shares(total: int, width: int) -> st.SearchStrategy[list[int]]:
    """Cut a total into that many parts, some of them nothing."""
    cuts = st.lists(st.integers(0, total), min_size=width - 1, max_size=width - 1).map(sorted)
    return cuts.map(lambda at: [end - start for start, end in pairwise([0, *at, total])])


@settings(max_examples=200)
@given(margins())
def test_any_two_sides_of_a_day_come_out_exact_in_requests_tokens_and_money(
    found: LegacyDay,
) -> None:
    assert_exact(split_day(found, Rules()), found)


def test_amounts_that_fit_no_request_are_parts_of_one_and_the_count_stays() -> None:
    found = day(
        total=[portion("", 2, 20, 10)],
        users=[portion("alice", 1, 10, 5), portion("bob", 1, 10, 5)],
        models=[portion("gpt", 1, 3, 9), portion("claude", 1, 17, 1)],
    )
    split = split_day(found, Rules())
    assert_exact(split, found)
    assert [cell.requests for cell in split.cells if cell.requests] == [1, 1]
    assert any(not cell.requests for cell in split.cells)


def test_more_requests_than_any_day_has_are_refused() -> None:
    users = [portion("alice", REQUESTS_MAX), portion("bob")]
    assert "no count" in str(split_day(day(users=users), Rules(accept_differences=True)).refused)
