"""Holding one person's books against the ledger, generation by generation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from shared.core.rows import UnmeteredRow
from shared.projection.resolution import Bill
from tests.e2e.fates import Fate, is_chat

Row = dict[str, Any]


@dataclass
class Account:
    """What became of every ledger row of a person, and what the books hold beyond them."""

    rows: list[Row]
    fates: dict[str, Fate] = field(default_factory=dict)
    booked_usd: Decimal = Decimal(0)
    wrong: list[str] = field(default_factory=list)

    @property
    def in_order(self) -> list[Fate]:
        """The fates in the order in which the generations were asked for."""
        return [self.fates[row["id"]] for row in self.rows]

    def billed_usd(self, *fates: Fate) -> Decimal:
        """Add up what OpenRouter billed for the generations with one of these fates."""
        chosen = [row for row in self.rows if not fates or self.fates[row["id"]] in fates]
        return sum((Decimal(row["cost"]) for row in chosen), Decimal(0))

    @property
    def billed_generations(self) -> int:
        """Count what was billed: neither refused nor another vendor's."""
        return sum(_is_billed(row) for row in self.rows)

    def count(self, *fates: Fate) -> int:
        """Count the generations with one of these fates."""
        return sum(fate in fates for fate in self.fates.values())

    @property
    def difference_usd(self) -> Decimal:
        """What the books show too much (or, negative, too little) of what they say is booked."""
        return self.booked_usd - self.billed_usd(Fate.BOOKED, Fate.MISSTATED)


def settle_account(
    rows: Sequence[Row], bills: Sequence[Bill], unmetered: Sequence[UnmeteredRow]
) -> Account:
    """Match ledger rows with what the books hold of them; each of both is used once."""
    account = Account(list(rows))
    account.booked_usd = sum((bill.event.cost_usd or Decimal(0) for bill in bills), Decimal(0))
    open_bills = [bill for bill in bills if not _match_generation(account, bill)]
    for bill in open_bills:
        _match_turn(account, bill)
    for side_row in sorted(unmetered, key=lambda row: row.occurred_at, reverse=True):
        _match_unmetered(account, side_row)
    for row in _unmatched(account):
        account.fates[row["id"]] = Fate.HIDDEN if _is_billed(row) else Fate.NOTHING
    return account


def _is_billed(row: Row) -> bool:
    return bool(row["status"] != "refused" and row["connection"] == "openrouter")


def _unmatched(account: Account, condition: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    return [row for row in account.rows if row["id"] not in account.fates and condition(row)]


def _match_generation(account: Account, bill: Bill) -> bool:
    event = bill.event
    row = next((row for row in account.rows if row["id"] == event.request_id), None)
    if event.grain != "generation":
        return False
    if row is None:
        account.wrong.append(f"{event.request_id} is in no ledger")
        return True
    account.fates[row["id"]] = Fate.BOOKED if event.is_settled else Fate.PENDING
    if event.is_settled:
        _compare(account, bill, [row])
    if not _is_billed(row):
        account.wrong.append(f"{row['id']} was not billed through OpenRouter")
    for name, value in _identity_of(row).items():
        # The host names an answer of the API for its outlet only; by this name it is found there.
        is_named_late = name == "message_id" and value is None and not event.is_settled
        if getattr(event, name) != value and not is_named_late:
            account.wrong.append(f"{row['id']}: {name} is {getattr(event, name)}, not {value}")
    return True


def _identity_of(row: Row) -> dict[str, str | None]:
    """Return what Open WebUI and OpenRouter themselves say of a generation."""
    return {
        "model": row["model"],
        "task": "chat",
        "chat_id": row["sent_by"].get("chat") or None,
        "message_id": row["sent_by"].get("message") or None,
    }


def _match_turn(account: Account, bill: Bill) -> None:
    """Give a turn the generations of its message; one without a chat those without a message.

    A continued answer comes as several turns: each takes the generations of its own tokens.
    """
    event = bill.event
    message_id = event.message_id if event.chat_id else ""
    rows = _unmatched(
        account,
        lambda row: (
            is_chat(row)
            and row["status"] != "refused"
            and row["connection"] == "openrouter"
            and row["sent_by"].get("message", "") == message_id
        ),
    )
    if not rows:
        account.wrong.append(f"{event.request_id} stands for no generation")
        return
    exact = [row for row in rows if _has_tokens_of(event, row)]
    rows = exact[:1] or rows
    # An outlet cannot tell which model a router or a proxy chose, nor one of the API what stood
    # behind a preset or an arena; a prefix must be gone from all of them.
    asked, answered = rows[-1]["requested_model"], rows[-1]["model"]
    is_open = event.model.startswith("unresolved:") and (not event.chat_id or asked in event.model)
    if event.model not in (answered, asked) and not is_open:
        account.wrong.append(f"{event.request_id}: model {event.model}, answered by {answered}")
    fate = Fate.PENDING
    if event.is_settled:
        is_right = event.cost_usd == sum(Decimal(row["cost"]) for row in rows)
        fate = Fate.BOOKED if is_right else Fate.MISSTATED
        if is_right:
            _compare(account, bill, rows)
    elif event.estimated_cost_usd is not None:
        fate = Fate.ESTIMATED
    account.fates.update({row["id"]: fate for row in rows})


def _has_tokens_of(event: Any, row: Row) -> bool:
    tokens = (row["prompt_tokens"], row["completion_tokens"])
    return bool((event.input_tokens, event.output_tokens) == tokens)


def _compare(account: Account, bill: Bill, rows: Sequence[Row]) -> None:
    """Hold money and tokens of a settled bill against the rows it stands for."""
    event = bill.event
    expected = {
        "cost_usd": sum(Decimal(row["cost"]) for row in rows),
        "input_tokens": sum(row["prompt_tokens"] for row in rows),
        "output_tokens": sum(row["completion_tokens"] for row in rows),
        "cached_tokens": sum(row["cached_tokens"] for row in rows),
        "reasoning_tokens": sum(row["reasoning_tokens"] for row in rows),
        "is_byok": rows[-1]["is_byok"],
    }
    if rows[-1]["is_byok"]:
        expected["upstream_cost_usd"] = Decimal(rows[-1]["upstream_cost"])
    for name, value in expected.items():
        if getattr(event, name) != value:
            account.wrong.append(
                f"{event.request_id}: {name} is {getattr(event, name)}, billed {value}"
            )
    # A provider that counts twice says two things, and the later one is right.
    if bill.conflict and rows[-1]["words"].get("usage") != "grow":
        account.wrong.append(f"{event.request_id}: observations disagree")


def _match_unmetered(account: Account, side_row: UnmeteredRow) -> None:
    """Give a task its generation, and a silent answer all that its message began since then.

    One of the API, which has no message, takes the one generation that it can only be.
    """
    if side_row.task != "chat":
        found = _unmatched(account, lambda row: _is_task_of(row, side_row))[:1]
    elif side_row.chat_id:
        began = side_row.occurred_at.timestamp()
        found = _unmatched(
            account,
            lambda row: (
                row["sent_by"].get("message") == side_row.message_id and row["created"] >= began
            ),
        )
    else:
        nameless = _unmatched(account, is_chat)
        found = [row for row in nameless if not row["sent_by"].get("message")][:1]
    if not found:
        account.wrong.append(f"unmetered {side_row.task} {side_row.request_id} was not billed")
    for row in found:
        account.fates.setdefault(row["id"], Fate.UNMETERED)


def _is_task_of(row: Row, side_row: UnmeteredRow) -> bool:
    task = (row["sent_by"].get("task"), row["requested_model"])
    return bool(task == (side_row.task, side_row.model))
