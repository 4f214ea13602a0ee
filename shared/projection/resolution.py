"""Resolution: from all observations of what was billed, the one amount that counts."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from shared.core.event import COST_SOURCES, UNASSIGNED, UsageEvent
from shared.core.ids import NO_KEY, is_part_request_id, part_request_id
from shared.core.money import format_usd
from shared.core.rows import UnmeteredRow

# Which source decides user, organization, task, chat and time: the nearest to the person first.
_SOURCE_RANKS = ("function", "pipeline", "webhook", "manual", "settlement")
_COST_RANKS = {source: rank for rank, source in enumerate(COST_SOURCES)}
# Open WebUI stamps a message in whole seconds, the browser's clock may be a little late.
TURN_SLACK = timedelta(seconds=5)
# A part begins by the host's own clock, and the part before it may have begun just now.
_PART_SLACK = timedelta(seconds=2)
_UNRESOLVED = "unresolved:"
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


ReportedAmount = tuple[Decimal, Decimal | None]


@dataclass(frozen=True)
class Bill:
    """What one request_id costs: money and tokens of the winner, identity of the best source.

    `competing_amounts` are the amounts that sources of the winner's rank reported, if they reported
    more than one: what OpenRouter charged and, for a BYOK key, what its provider bills.
    """

    event: UsageEvent
    observations: int
    competing_amounts: Sequence[ReportedAmount] = ()

    @property
    def conflict(self) -> bool:
        """Whether sources of equal rank reported different amounts."""
        return bool(self.competing_amounts)


@dataclass(frozen=True)
class Finding:
    """Something about a bill that a person should know."""

    request_id: str
    kind: Literal["conflict", "unmatched"]
    occurred_at: datetime
    detail: str


@dataclass(frozen=True)
class Resolution:
    """The bills of a set of events, each bill once, and what was found on the way."""

    bills: list[Bill]
    findings: list[Finding]


def resolve(
    events: Iterable[UsageEvent], *, turns: Literal["bill", "observe"] = "bill"
) -> Resolution:
    """Resolve events to bills; the same for every order and any repetition of arrival.

    `turns="observe"` keeps whole answers out of the bill, where another source sees every
    generation of the same traffic; a turn that no generation explains is then a finding.
    """
    observations: dict[str, list[UsageEvent]] = defaultdict(list)
    for event in events:
        observations[event.request_id].append(event)
    bills = [_resolve_one(observations[request_id]) for request_id in sorted(observations)]
    findings = [_conflict(bill) for bill in bills if bill.conflict]
    superseded, unmatched = _superseded(bills)
    if turns == "observe":
        findings.extend(_unmatched(bill) for bill in unmatched)
        bills = [bill for bill in bills if bill.event.grain == "generation"]
    else:
        bills = [bill for bill in bills if bill.event.request_id not in superseded]
    return Resolution(bills, findings)


def still_unmetered(
    unmetered: Iterable[UnmeteredRow], events: Iterable[UsageEvent]
) -> list[UnmeteredRow]:
    """Return the unmetered rows that no event explains, each once.

    A silent inlet is explained by the late outlet of its answer, or of the same part of a continued
    one; or by a generation that another hook saw begin after it.
    """
    request_ids: set[str] = set()
    latest: dict[tuple[str | None, str | None], datetime] = {}
    for event in events:
        request_ids.add(event.request_id)
        answer = (event.chat_id, event.message_id)
        if event.grain == "turn":
            began = event.occurred_at
            request_ids.add(part_request_id(event.chat_id or "", event.message_id or "", began))
        else:
            latest[answer] = max(event.occurred_at, latest.get(answer, event.occurred_at))
    rows = {row.request_id: row for row in sorted(unmetered, key=lambda row: row.to_json())}
    return [
        row
        for request_id, row in rows.items()
        if request_id not in request_ids and not _has_later_generation(row, latest)
    ]


def _has_later_generation(
    row: UnmeteredRow, latest: dict[tuple[str | None, str | None], datetime]
) -> bool:
    seen = latest.get((row.chat_id, row.message_id)) if row.message_id else None
    if seen is None:
        return False
    # Without a chat the message was named for this one answer, after its generation had begun.
    slack = _PART_SLACK if is_part_request_id(row.request_id) else TURN_SLACK
    return row.chat_id is None or seen >= row.occurred_at - slack


def _resolve_one(events: Sequence[UsageEvent]) -> Bill:
    if len(events) == 1:
        return Bill(events[0], observations=1)
    distinct = _distinct(events)
    winner = min(distinct, key=_money_order)
    resolved = winner.model_copy(update=_identity(winner, distinct))
    return Bill(
        resolved, observations=len(distinct), competing_amounts=_competing_amounts(winner, distinct)
    )


def _competing_amounts(
    winner: UsageEvent, events: Sequence[UsageEvent]
) -> Sequence[ReportedAmount]:
    reported = {
        (event.cost_usd, event.upstream_cost_usd)
        for event in events
        if event.cost_usd is not None and event.cost_source == winner.cost_source
    }
    if len(reported) < 2:
        return ()
    return sorted(reported, key=lambda each: (each[0], each[1] is not None, each[1] or 0))


def _distinct(events: Sequence[UsageEvent]) -> list[UsageEvent]:
    """Keep one event per event_id, the same one whatever the order.

    Two copies of an observation can differ in what is no part of its identity, such as the clock
    of a capture that had no better time.
    """
    kept: dict[str, UsageEvent] = {}
    for event in sorted(events, key=lambda event: event.to_json()):
        kept.setdefault(event.event_id, event)
    return list(kept.values())


def _money_order(event: UsageEvent) -> tuple[bool, int, int, Any, str]:
    amount = event.cost_usd if event.cost_usd is not None else event.estimated_cost_usd
    return (
        not event.is_settled,
        _COST_RANKS[event.cost_source],
        -event.total_tokens,
        -(amount or 0),
        event.event_id,
    )


def _source_rank(source: str) -> int:
    return _SOURCE_RANKS.index(source) if source in _SOURCE_RANKS else len(_SOURCE_RANKS)


def _identity(winner: UsageEvent, events: Sequence[UsageEvent]) -> dict[str, Any]:
    """Take who, where and when from the first source that knows it."""
    trusted = sorted(events, key=lambda event: (_source_rank(event.source), _money_order(event)))

    def first(name: str, *unknown: str | None) -> Any:
        values = (getattr(event, name) for event in trusted)
        return next((value for value in values if value not in unknown), getattr(winner, name))

    models = [winner.model, *(event.model for event in sorted(events, key=_money_order))]
    return {
        "external_user": first("external_user", "unknown"),
        "client_org_id": first("client_org_id", UNASSIGNED),
        "task": first("task", "unknown"),
        "api_key_hash": first("api_key_hash", NO_KEY),
        "chat_id": first("chat_id", None),
        "message_id": first("message_id", None),
        "occurred_at": first("occurred_at"),
        "model": next((model for model in models if _is_resolved(model)), winner.model),
    }


def _is_resolved(model: str) -> bool:
    return model != "unknown" and not model.startswith(_UNRESOLVED)


def _superseded(bills: Sequence[Bill]) -> tuple[set[str], list[Bill]]:
    """Decide between turns and the generations they stand for.

    Returns the request_ids that do not count, and the turns without any generation.
    """
    answers: dict[tuple[str, str], list[Bill]] = defaultdict(list)
    for bill in bills:
        if bill.event.chat_id and bill.event.message_id:
            answers[bill.event.chat_id, bill.event.message_id].append(bill)
    superseded: set[str] = set()
    unmatched = [bill for bill in bills if _is_turn(bill) and not bill.event.chat_id]
    for answer in answers.values():
        turns = sorted(filter(_is_turn, answer), key=lambda bill: bill.event.occurred_at)
        ends = [turn.event.occurred_at - TURN_SLACK for turn in turns[1:]] + [_END_OF_TIME]
        for turn, end in zip(turns, ends, strict=False):
            start = turn.event.occurred_at - TURN_SLACK
            parts = [
                bill
                for bill in answer
                if not _is_turn(bill) and start <= bill.event.occurred_at < end
            ]
            if any(bill.event.is_settled for bill in parts):
                superseded.add(turn.event.request_id)
            elif parts:
                superseded.update(bill.event.request_id for bill in parts)
            else:
                unmatched.append(turn)
    return superseded, unmatched


def _is_turn(bill: Bill) -> bool:
    return bill.event.grain == "turn"


def _conflict(bill: Bill) -> Finding:
    event = bill.event
    amounts = " or ".join(_amount(*each) for each in bill.competing_amounts)
    counts = _amount(event.cost_usd or Decimal(0), event.upstream_cost_usd)
    detail = f"{bill.observations} observations: {amounts} USD; {event.source} counts, {counts} USD"
    return Finding(event.request_id, "conflict", event.occurred_at, detail)


def _amount(cost: Decimal, upstream: Decimal | None) -> str:
    provider = f" (BYOK, provider bills {format_usd(upstream)})" if upstream is not None else ""
    return format_usd(cost) + provider


def _unmatched(bill: Bill) -> Finding:
    event = bill.event
    return Finding(event.request_id, "unmatched", event.occurred_at, "no generation seen")
