"""Audit: what changed in summaries that were final, and where summaries and events differ."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date

from shared.core.amounts import Amounts
from shared.projection.organization import Directory
from shared.projection.summary import DayFacts, SummaryKey, SummaryRow, billed_pico

WRONG_MARKUP = "billed was not raw x rate"


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A change of a row that had been final: `old` None did not exist, `new` None is gone."""

    key: SummaryKey
    old: Amounts | None
    new: Amounts | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A place where the stored summaries are not what the events say.

    `subject` names the row, `what` the column; an empty side means that there is nothing.
    """

    organization_id: str
    local_date: date
    subject: str
    what: str
    stored: str
    computed: str


def find_corrections(
    stored: Iterable[SummaryRow],
    computed: Iterable[SummaryRow],
    directory: Directory,
    *,
    closed: bool,
    why: str,
) -> list[Correction]:
    """Return the changes worth a record: all of a closed day, and any wrong markup.

    The markup check compares what is *stored* as billed with the stored base x the day's rate, so
    that an edited row is distinguished from one that got more events.
    """
    before = {row.key: row.amounts for row in stored}
    after = {row.key: row.amounts for row in computed}
    found: list[Correction] = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        wrong = old is not None and not _is_marked_up(key, old, directory)
        if old != new and (closed or wrong):
            reasons = [reason for reason in (WRONG_MARKUP if wrong else "", why) if reason]
            found.append(Correction(key=key, old=old, new=new, why="; ".join(reasons)))
    return found


def find_differences(stored: DayFacts, computed: DayFacts) -> list[Difference]:
    """Compare two versions of a day, column by column."""
    before, after = _columns(stored), _columns(computed)
    return [
        Difference(
            organization_id=place[0],
            local_date=place[1],
            subject=place[2],
            what=place[3],
            stored=before.get(place, ""),
            computed=after.get(place, ""),
        )
        for place in sorted(before.keys() | after.keys())
        if before.get(place) != after.get(place)
    ]


def _is_marked_up(key: SummaryKey, amounts: Amounts, directory: Directory) -> bool:
    expected = billed_pico(key, amounts.raw_pico_usd, amounts.upstream_pico_usd, directory)
    return amounts.billed_pico_usd == expected


def _columns(facts: DayFacts) -> Mapping[tuple[str, date, str, str], str]:
    columns: dict[tuple[str, date, str, str], str] = {}
    for row in facts.rows:
        key = row.key
        subject = f"{key.external_user} / {key.model} / {key.task} / {key.source}"
        for name, amount in asdict(row.amounts).items():
            columns[key.organization_id, key.local_date, subject, name] = str(amount)
    for count in facts.unmetered:
        subject = f"{count.external_user} / {count.model} / {count.task}"
        place = (count.organization_id, count.local_date, subject, "unmetered")
        columns[place] = str(count.generations)
    for finding in facts.findings:
        place = (finding.organization_id, finding.local_date, finding.request_id, finding.kind)
        columns[place] = finding.detail
    return columns
