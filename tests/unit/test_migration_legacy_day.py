"""Reconciling a day of the original system: exact, or refused with the figures."""

from dataclasses import replace
from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from migration_tools.sources.legacy_day import Rules, Split, split_day
from migration_tools.sources.legacy_rows import LegacyDay, Portion

USD = 10**12


def portion(name: str, requests: int = 1, tokens: int = 10, pico: int = USD) -> Portion:
    return Portion(name=name, requests=requests, tokens=tokens, pico=pico)


def day(**sides: list[Portion]) -> LegacyDay:
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
    split = split_day(found, Rules())
    assert not split.refused
    for name, column in (("user", 0), ("model", 1)):
        truth = {each.name: (each.tokens, each.pico) for each in side(column)}
        assert {key: sums[1:] for key, sums in by(split, name).items()} == truth
    events = sum(max(1, cell.requests) for cell in split.cells)
    assert events == len(requests) or split.notes
