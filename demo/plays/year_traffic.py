"""A year of usage as the events that hosts and webhook would have booked, and its charges."""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from demo.plays.year_world import DAYS, MODELS, Person
from shared.core.event import UsageEvent, new_event
from shared.core.money import parse_usd
from shared.core.rows import Row, UnmeteredRow, UserRow

_LETTERS = string.ascii_letters + string.digits
_MILLION = Decimal(10**6)
# Monday to Sunday.
_WEEK = (1.0, 1.05, 1.1, 1.0, 0.85, 0.18, 0.14)
_TASKS = ("title_generation", "tags_generation", "follow_up_generation")
# Their tasks are booked from OpenRouter's webhook; those of the others have no price.
_WITH_WEBHOOK = ("baltic-legal", "nagoya-systems")
_WITH_OWN_KEY = "harbour-labs"
_BYOK_FEE = Decimal("0.05")
# Days back on which two sources report different costs of one answer.
_CONFLICTS_BACK = (200, 40, 2)
# A cost that is not known is settled within weeks.
_UNSETTLED_DAYS = 30


@dataclass
class YearCharges:
    """What the year was charged: US dollars, exact, and how many bills there are."""

    charged: Decimal = Decimal(0)
    bills: int = 0
    rows: int = 0

    def add(self, event: UsageEvent) -> None:
        """Count one bill, however often it will be observed."""
        self.charged += (event.cost_usd or Decimal(0)) + (event.upstream_cost_usd or Decimal(0))
        self.bills += 1


def day_weight(day: date, number: int) -> float:
    """Return how busy a day is: growth over the year, days of the week, holidays."""
    is_holiday = (day.month, day.day) >= (12, 21) or (day.month, day.day) <= (1, 3)
    season = 0.3 if is_holiday else 0.75 if day.month == 8 else 1.0
    return (0.4 + number / DAYS) * _WEEK[day.weekday()] * season


class YearAuthor:
    """Writes the rows of a year, day by day, and adds up what they are charged."""

    def __init__(self, random: Random, people: Sequence[Person], now: datetime) -> None:
        self._random = random
        self._people = people
        self._now = now
        self._conflicts_left = set(_CONFLICTS_BACK)
        self.charges = YearCharges()

    def names(self) -> Iterator[UserRow]:
        for person in self._people:
            first = person.name.split()[0].lower()
            email = f"{first}@example.test"
            yield UserRow(
                user_id=person.user_id, occurred_at=self._now, name=person.name, email=email
            )

    def rows(self, answers: int) -> Iterator[Row]:
        """Return about this many answers of the year that ends now, with their tasks."""
        days = [self._now.date() - timedelta(days=DAYS - 1 - number) for number in range(DAYS)]
        weights = [day_weight(day, number) for number, day in enumerate(days)]
        per_weight = answers / sum(weights)
        for number, day in enumerate(days):
            here = [person for person in self._people if person.joined <= number]
            busy = [person.activity for person in here]
            noise = self._random.uniform(0.85, 1.15)
            for person in self._random.choices(
                here, busy, k=round(per_weight * weights[number] * noise)
            ):
                yield from self._answer(person, day)

    def _answer(self, person: Person, day: date) -> Iterator[Row]:
        at = self._moment(person, day)
        if at > self._now:
            return
        for row in self._rows_of(person, at):
            self.charges.rows += 1
            yield row

    def _rows_of(self, person: Person, at: datetime) -> Iterator[Row]:
        random = self._random
        model, chat_id = random.choice(person.models), self._letters(16)
        chat = self._event(person, at, model, chat_id=chat_id, message_id=self._letters(16))
        self.charges.add(chat)
        yield chat
        back = (self._now.date() - at.date()).days
        if back in self._conflicts_left and chat.cost_usd:
            self._conflicts_left.remove(back)
            yield chat.model_copy(update={"source": "webhook", "cost_usd": chat.cost_usd / 2})
        draw = random.random()
        if draw < 0.004 and chat.is_settled:
            yield chat.model_copy(update={"source": "webhook", "cost_source": "webhook"})
        for task in _TASKS if draw < 0.12 else _TASKS[2:] if draw < 0.3 else ():
            yield self._task(person, at, task, chat_id)

    def _task(self, person: Person, at: datetime, task: str, chat_id: str) -> Row:
        if _organization(person) in _WITH_WEBHOOK:
            source: dict[str, Any] = {"source": "webhook", "cost_source": "webhook"}
            event = self._event(
                person, at, "openai/gpt-5-nano", task=task, chat_id=chat_id, **source
            )
            self.charges.add(event)
            return event
        return UnmeteredRow(
            request_id=f"task:{self._letters(20)}",
            occurred_at=at,
            external_user=person.user_id,
            model="openai/gpt-5-nano",
            task=task,
            chat_id=chat_id,
        )

    def _event(self, person: Person, at: datetime, model: str, **more: Any) -> UsageEvent:
        random = self._random
        is_task = "task" in more
        prompt = random.randint(120, 900) if is_task else round(random.lognormvariate(8.4, 0.9))
        completion = random.randint(5, 40) if is_task else round(random.lognormvariate(6.2, 0.7))
        price = MODELS[model]
        cost = parse_usd((prompt * price.prompt + completion * price.completion) / _MILLION)
        fields: dict[str, Any] = {
            "request_id": f"gen-{int(at.timestamp())}-{self._letters(20)}",
            "grain": "generation",
            "occurred_at": at,
            "external_user": person.user_id,
            "requested_model": model,
            "model": model,
            "provider": model.partition("/")[0],
            "source": "function",
            "cost_source": "response",
            "input_tokens": prompt,
            "output_tokens": completion,
            "total_tokens": prompt + completion,
            "reasoning_tokens": completion // 3 if "gpt-5" in model else 0,
            "finish_reason": "stop",
            "latency_ms": random.randint(300, 9000),
        }
        return new_event(**(fields | more | self._charged(person, at, cost)))

    def _charged(self, person: Person, at: datetime, cost: Decimal) -> dict[str, Any]:
        """Return how a cost is reported: known, at the provider of an own key, or pending."""
        draw = self._random.random()
        is_recent = self._now - at < timedelta(days=_UNSETTLED_DAYS)
        if is_recent and draw < 0.004:
            return {"cost_source": "none"}
        if is_recent and draw < 0.006:
            return {"cost_source": "estimate", "estimated_cost_usd": cost}
        if _organization(person) == _WITH_OWN_KEY and draw > 0.92:
            fee = parse_usd(cost * _BYOK_FEE)
            return {"cost_usd": fee, "is_byok": True, "upstream_cost_usd": cost}
        return {"cost_usd": cost}

    def _moment(self, person: Person, day: date) -> datetime:
        zone = ZoneInfo(person.client.time_zone if person.client else "Europe/Warsaw")
        opening = datetime.combine(day, time(8), zone)
        worked = timedelta(hours=self._random.triangular(0, 11))
        return (opening + worked).astimezone(UTC).replace(microsecond=0)

    def _letters(self, count: int) -> str:
        return "".join(self._random.choices(_LETTERS, k=count))


def _organization(person: Person) -> str:
    return person.client.organization_id if person.client else "unassigned"
