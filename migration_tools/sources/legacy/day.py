"""Reconciling one day: from the tables of the original system to one consistent split."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from migration_tools.sources.legacy.apportion import largest_remainder
from migration_tools.sources.legacy.cells import Cell, split_cells
from migration_tools.sources.legacy.rows import REQUESTS_MAX, LegacyDay, Portion
from shared.core.money import PPM, format_usd, from_pico

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Split:
    """A day in cells; `refused` is why it may not be imported, with the figures."""

    cells: Sequence[Cell] = ()
    generations: Sequence[Portion] = ()
    refused: str | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Options for reading days; the rate of a day is in parts per million."""

    accept_differences: bool = False
    raw_includes_markup: bool = False
    rate_ppm: int = PPM


def split_day(day: LegacyDay, rules: Rules) -> Split:
    """Return the finest split that all tables of a day agree on.

    Tables without a row for the day are ignored. Where tables disagree the day is refused, or, with
    `accept_differences`, the daily row counts, together with the tables that agree with it.
    """
    sides = {kind: _by_name(getattr(day, kind)) for kind in ("total", "users", "models")}
    if not any(sides.values()):
        return _of_generations(day, rules)
    differences = [*day.damaged, *_differences(sides, day)]
    if differences and not rules.accept_differences:
        return Split(refused="; ".join(differences))
    refused, notes = _check_markup(sides, day, rules)
    if refused:
        return Split(refused=refused)
    total = _day_total(sides)
    if total.requests > REQUESTS_MAX:
        return Split(refused=f"{total.requests} requests on one day are no count")
    users, models = (
        sides[kind] if _agrees(sides[kind], total) else [] for kind in ("users", "models")
    )
    if rules.raw_includes_markup:
        [total] = _without_markup([total], rules.rate_ppm)
        users, models = (_without_markup(side, rules.rate_ppm) for side in (users, models))
    users, models = (_balanced(side, total) for side in (users, models))
    cells = split_cells(users or [total], models or [total])
    return Split(cells, notes=[*differences, *notes])


def _of_generations(day: LegacyDay, rules: Rules) -> Split:
    """Return single generations where no daily table has the day: user and model are unknown."""
    if not day.generations or (day.damaged and not rules.accept_differences):
        return Split(refused="; ".join(day.damaged))
    note = "only processed_generations has this day"
    return Split(generations=day.generations, notes=[*day.damaged, note])


def _by_name(rows: Sequence[Portion]) -> list[Portion]:
    """Add up the rows of each name, ordered by name."""
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


def _day_total(sides: dict[str, list[Portion]]) -> Portion:
    """Return the total of a day: its daily row, else of its users, else of its models."""
    return next(_sum(_UNKNOWN, sides[kind]) for kind in ("total", "users", "models") if sides[kind])


def float_noise(pico: int, additions: int) -> int:
    """Return by how many pico-USD two float sums of the same amounts may differ.

    The original added up floats in different orders: half a unit in the last place per addition on
    both sides, and one pico-USD per row for what is finer than that.
    """
    return (pico * (additions + 2) >> 52) + additions + 1


def _is_close(side: Sequence[Portion], total: Portion) -> bool:
    found = _sum("", side)
    additions = max(found.requests, total.requests, len(side))
    return abs(found.pico - total.pico) <= min(
        float_noise(total.pico, additions), total.pico // 10**6 + len(side) + 1
    )


def _agrees(side: Sequence[Portion], total: Portion) -> bool:
    found = _sum("", side)
    counts = (found.tokens, found.requests) == (total.tokens, total.requests)
    return bool(side) and counts and _is_close(side, total)


def _differences(sides: dict[str, list[Portion]], day: LegacyDay) -> list[str]:
    total = _day_total(sides)
    found = []
    if len(day.total) > 1:
        found.append(f"client_daily_usage has {len(day.total)} rows for the day")
    for kind in ("users", "models"):
        if sides[kind] and not _agrees(sides[kind], total):
            found.append(
                f"the day says {_amounts(total)}, its {kind} say {_amounts(_sum('', sides[kind]))}"
            )
    return found


def _amounts(portion: Portion) -> str:
    usd = format_usd(from_pico(portion.pico))
    return f"{portion.requests} requests, {portion.tokens} tokens, {usd} USD"


def _balanced(side: list[Portion], total: Portion) -> list[Portion]:
    """Spread the float noise between a side and the day's total over its rows."""
    noise = total.pico - sum(row.pico for row in side)
    if noise >= 0:
        shares = largest_remainder(noise, [row.pico for row in side])
    else:
        shares = [-share for share in largest_remainder(-noise, [row.pico for row in side])]
    return [replace(row, pico=row.pico + share) for row, share in zip(side, shares, strict=True)]


def _check_markup(
    sides: dict[str, list[Portion]], day: LegacyDay, rules: Rules
) -> tuple[str | None, list[str]]:
    """Compare raw_cost with the generations: return why the day is refused, and notes."""
    total, charged = _day_total(sides), _sum("", day.generations)
    if not charged.pico or charged.requests != total.requests:
        return None, []
    ratio = f"{total.pico / charged.pico:.6f}"
    ratio_note = f"raw_cost is {ratio} times the total_cost of the day's processed_generations"
    marked_up = charged.pico * rules.rate_ppm // PPM
    is_raw = _is_close(day.generations, total)
    # At a rate of 1 it is both.
    is_marked_up = _is_close([replace(charged, pico=marked_up)], total)
    if rules.raw_includes_markup and is_raw and not is_marked_up:
        return f"{ratio_note}: it does not include the markup", []
    if is_marked_up and not is_raw and not rules.raw_includes_markup:
        return f"{ratio_note}: it includes the markup; say --raw-cost-includes-markup", []
    if is_raw or is_marked_up:
        return None, []
    return (None, [ratio_note]) if rules.accept_differences else (ratio_note, [])


def _without_markup(side: Sequence[Portion], rate_ppm: int) -> list[Portion]:
    """Divide every row by the rate, each rounded by itself.

    What rounding leaves between a side and its day counts as float noise.
    """
    rate_ppm = rate_ppm or PPM
    return [replace(row, pico=(2 * row.pico * PPM + rate_ppm) // (2 * rate_ppm)) for row in side]
