"""The world of a year: four organizations in four zones and currencies, their people, models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import product
from random import Random
from uuid import UUID

from demo.plays.world import CLIENTS, Client
from shared.summary_db.exchange import ExchangeRate, parse_rate

DAYS = 365
PEOPLE = 150
# Users who joined so late that they are not assigned yet.
NEWCOMERS = 5
# Markups before today's, each until so many days ago.
EARLIER_MARKUPS = {"baltic-legal": (200, "1.25"), "coast-schools": (90, "1.1")}
# Users who moved: from, to, how many days ago.
MOVED = (("harbour-labs", "coast-schools", 120), ("coast-schools", "nagoya-systems", 33))
_OVERSEAS = Client(
    organization_id="nagoya-systems",
    name="Nagoya Systems",
    time_zone="Asia/Tokyo",
    multiplier="1.2",
    people={},
    currency="JPY",
)
_CURRENCIES = {"baltic-legal": "PLN", "harbour-labs": "GBP"}
# How large the organizations are, in the order of `year_clients`.
_SHARES = (0.4, 0.27, 0.2, 0.13)
_FIRST_NAMES = (
    "Aiko", "Anna", "Ben", "Carla", "Daniel", "Elena", "Felix", "Greta", "Hugo", "Ida", "Jonas",
    "Kenji", "Lena", "Marek", "Nora", "Oskar", "Paula", "Ruth", "Simon", "Tomasz", "Vera", "Yuki",
)  # fmt: skip
_SURNAMES = ("Adler", "Brook", "Cole", "Dunn", "Frost", "Gray", "Hale", "Mori", "Novak", "Sato")


@dataclass(frozen=True)
class Priced:
    """A model: US dollars per million tokens, and how often people choose it."""

    prompt: Decimal
    completion: Decimal
    weight: int


def _priced(prompt: str, completion: str, weight: int) -> Priced:
    return Priced(Decimal(prompt), Decimal(completion), weight)


MODELS: Mapping[str, Priced] = {
    "openai/gpt-5-mini": _priced("0.25", "2", 24),
    "anthropic/claude-sonnet-4.5": _priced("3", "15", 17),
    "google/gemini-3-flash": _priced("0.3", "2.5", 14),
    "anthropic/claude-haiku-4.5": _priced("1", "5", 11),
    "openai/gpt-5": _priced("1.25", "10", 9),
    "google/gemini-2.5-pro": _priced("1.25", "10", 7),
    "openai/gpt-5-nano": _priced("0.05", "0.4", 6),
    "deepseek/deepseek-chat-v3.1": _priced("0.27", "1.1", 5),
    "mistralai/mistral-large": _priced("2", "6", 3),
    "meta-llama/llama-4-scout:free": _priced("0", "0", 2),
    "x-ai/grok-4": _priced("3", "15", 1),
    "anthropic/claude-opus-4.1": _priced("15", "75", 1),
}


@dataclass(frozen=True, kw_only=True)
class Person:
    """A user: since which day of the year, how active, on which models."""

    user_id: str
    name: str
    client: Client | None
    joined: int
    activity: float
    models: Sequence[str]


def year_clients(random: Random) -> list[Client]:
    """Return the organizations with their people; the demo's are among them."""
    named = product(_FIRST_NAMES, _SURNAMES)
    names = [f"{first} {last}" for first, last in named]
    random.shuffle(names)
    clients = []
    for client, share in zip((*CLIENTS, _OVERSEAS), _SHARES, strict=True):
        count = round(share * (PEOPLE - NEWCOMERS)) - len(client.people)
        people = {_user_id(random): names.pop() for _ in range(count)}
        currency = _CURRENCIES.get(client.organization_id, client.currency)
        clients.append(replace(client, currency=currency, people={**client.people, **people}))
    return clients


def year_people(random: Random, clients: Sequence[Client]) -> list[Person]:
    """Return all users, including the newcomers without an organization."""
    people = [
        _person(random, user_id, name, client)
        for client in clients
        for user_id, name in client.people.items()
    ]
    for number in range(NEWCOMERS):
        newcomer = _person(random, _user_id(random), f"New Colleague {number + 1}", None)
        people.append(replace(newcomer, joined=DAYS - 20))
    return people


def year_exchange_rates(random: Random, last_day: date) -> Iterator[ExchangeRate]:
    """Return a rate of each currency for every working day, as a central bank publishes them."""
    for currency, start in (("PLN", "3.65"), ("GBP", "0.76"), ("JPY", "150.2")):
        rate = Decimal(start)
        for back in range(DAYS + 7, -1, -1):
            day = last_day - timedelta(days=back)
            rate = (rate * Decimal(str(random.uniform(0.996, 1.004)))).quantize(Decimal("0.0001"))
            if day.weekday() < 5:
                yield ExchangeRate(
                    currency=currency,
                    local_date=day,
                    rate_nano=parse_rate(str(rate)),
                    source="demo",
                )


def _person(random: Random, user_id: str, name: str, client: Client | None) -> Person:
    weights = [model.weight for model in MODELS.values()]
    return Person(
        user_id=user_id,
        name=name,
        client=client,
        joined=max(0, round(random.triangular(-200, DAYS - 10, -100))),
        activity=random.lognormvariate(0, 0.9),
        models=random.choices(list(MODELS), weights, k=4),
    )


def _user_id(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
