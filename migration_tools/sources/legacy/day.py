"""Reconciling: what the tables of the original system say of one day, made one consistent split."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from migration_tools.sources.legacy.apportion import spread
from migration_tools.sources.legacy.cells import Cell, split_cells
from migration_tools.sources.legacy.rows import REQUESTS_MAX, LegacyDay, Portion
from shared.core.money import PPM, format_usd, from_pico

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Split:
    """A day in cells. `refused` says why it may not be taken, with the figures."""

    cells: Sequence[Cell] = ()
    generations: Sequence[Portion] = ()
    refused: str | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How to read a day: what a person has decided about it. The rate is in parts per million."""

    accept_differences: bool = False
    raw_includes_markup: bool = False
    rate_ppm: int = PPM


def split_day(day: LegacyDay, rules: Rules) -> Split:
    """Take the finest split that all tables of a day agree on.

    Tables without a row for the day say nothing. Where they disagree the day is refused, or, with
    `accept_differences`, the daily row counts, with the split that agrees with it.
    """
    sides = {kind: _by_name(getattr(day, kind)) for kind in ("total", "users", "models")}
    if not any(sides.values()):
        return _of_generations(day, rules)
    trouble = [*day.damaged, *_disagreements(sides, day)]
    if trouble and not rules.accept_differences:
        return Split(refused="; ".join(trouble))
    complaint, notes = _markup(sides, day, rules)
    if complaint:
        return Split(refused=complaint)
    authority = _authority(sides)
    if authority.requests > REQUESTS_MAX:
        return Split(refused=f"{authority.requests} requests on one day are no count")
    users, models = (
        sides[kind] if _agrees(sides[kind], authority) else [] for kind in ("users", "models")
    )
    if rules.raw_includes_markup:
        [authority] = _without_markup([authority], rules.rate_ppm)
        users, models = (_without_markup(side, rules.rate_ppm) for side in (users, models))
    users, models = (_settled(side, authority) for side in (users, models))
    cells = split_cells(users or [authority], models or [authority])
    return Split(cells, notes=[*trouble, *notes])


def _of_generations(day: LegacyDay, rules: Rules) -> Split:
    """Take single generations where no daily table has the day: their user and model are lost."""
    if not day.generations or (day.damaged and not rules.accept_differences):
        return Split(refused="; ".join(day.damaged))
    said = "only processed_generations has this day"
    return Split(generations=day.generations, notes=[*day.damaged, said])


def _by_name(rows: Sequence[Portion]) -> list[Portion]:
    """Add up rows of one name, in the order of the names."""
    named: dict[str, list[Portion]] = defaultdict(list)
    for row in rows:
        named[row.name].append(row)
    return [_sum(name, named[name]) for name in sorted(named)]


def _sum(name: str, rows: Sequence[Portion]) -> Portion:
    return Portion(
        name=name,
        provider=next((row.provider for row in rows if row.provider), ""),
        tokens=sum(row.tokens for row in rows),
        requests=sum(row.requests for row in rows),
        pico=sum(row.pico for row in rows),
    )


def _authority(sides: dict[str, list[Portion]]) -> Portion:
    """Return what the day adds up to: the daily row, else the users, else the models."""
    return next(_sum(_UNKNOWN, sides[kind]) for kind in ("total", "users", "models") if sides[kind])


def float_noise(pico: int, additions: int) -> int:
    """Return by how many pico-USD two float sums of the same amounts may differ.

    The original added up floats in different orders: half a unit in the last place per addition on
    both sides, and one pico-USD per row for what is finer than that.
    """
    return (pico * (additions + 2) >> 52) + additions + 1


def _is_close(side: Sequence[Portion], authority: Portion) -> bool:
    total = _sum("", side)
    additions = max(total.requests, authority.requests, len(side))
    return abs(total.pico - authority.pico) <= min(
        float_noise(authority.pico, additions), authority.pico // 10**6 + len(side) + 1
    )


def _agrees(side: Sequence[Portion], authority: Portion) -> bool:
    total = _sum("", side)
    counts = (total.tokens, total.requests) == (authority.tokens, authority.requests)
    return bool(side) and counts and _is_close(side, authority)


def _disagreements(sides: dict[str, list[Portion]], day: LegacyDay) -> list[str]:
    authority = _authority(sides)
    found = []
    if len(day.total) > 1:
        found.append(f"client_daily_usage has {len(day.total)} rows for the day")
    for kind in ("users", "models"):
        if sides[kind] and not _agrees(sides[kind], authority):
            said = _figures(_sum("", sides[kind]))
            found.append(f"the day says {_figures(authority)}, its {kind} say {said}")
    return found


def _figures(portion: Portion) -> str:
    usd = format_usd(from_pico(portion.pico))
    return f"{portion.requests} requests, {portion.tokens} tokens, {usd} USD"


def _settled(side: list[Portion], authority: Portion) -> list[Portion]:
    """Move the float noise between a side and the day's total to its largest rows."""
    noise = authority.pico - sum(row.pico for row in side)
    if noise >= 0:
        parts = spread(noise, [row.pico for row in side])
    else:
        parts = [-part for part in spread(-noise, [row.pico for row in side])]
    return [replace(row, pico=row.pico + part) for row, part in zip(side, parts, strict=True)]


def _markup(
    sides: dict[str, list[Portion]], day: LegacyDay, rules: Rules
) -> tuple[str | None, list[str]]:
    """Compare raw_cost with what was charged per generation: it may hold the markup already."""
    authority, charged = _authority(sides), _sum("", day.generations)
    if not charged.pico or charged.requests != authority.requests:
        return None, []
    ratio = f"{authority.pico / charged.pico:.6f}"
    said = f"raw_cost is {ratio} times the total_cost of the day's processed_generations"
    marked_up = charged.pico * rules.rate_ppm // PPM
    is_raw = _is_close(day.generations, authority)
    # At a rate of 1 it is both.
    is_marked_up = _is_close([replace(charged, pico=marked_up)], authority)
    if rules.raw_includes_markup and is_raw and not is_marked_up:
        return f"{said}: it does not include the markup", []
    if is_marked_up and not is_raw and not rules.raw_includes_markup:
        return f"{said}: it includes the markup; say --raw-cost-includes-markup", []
    if is_raw or is_marked_up:
        return None, []
    return (None, [said]) if rules.accept_differences else (said, [])


def _without_markup(side: Sequence[Portion], rate_ppm: int) -> list[Portion]:
    """Divide every row by the rate, each rounded by itself: as near to what was charged as can be.

    What rounding leaves between a side and its day is float noise like any other.
    """
    rate_ppm = rate_ppm or PPM
    return [replace(row, pico=(2 * row.pico * PPM + rate_ppm) // (2 * rate_ppm)) for row in side]
