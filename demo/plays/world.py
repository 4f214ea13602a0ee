"""The world of the demo: three organizations, their people, their habits."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Client:
    """An organization with its users; `multiplier` is its markup."""

    organization_id: str
    name: str
    time_zone: str
    multiplier: str
    people: Mapping[str, str]
    currency: str = "USD"


CLIENTS = (
    Client(
        organization_id="baltic-legal",
        name="Baltic Legal",
        time_zone="Europe/Warsaw",
        multiplier="1.3",
        people={
            "u-ada": "Ada Nowak",
            "u-jan": "Jan Kowal",
            "u-ewa": "Ewa Lis",
            "u-piotr": "Piotr Maj",
        },
    ),
    Client(
        organization_id="harbour-labs",
        name="Harbour Labs",
        time_zone="Europe/London",
        multiplier="1.15",
        people={"u-grace": "Grace Field", "u-owen": "Owen Marsh", "u-nia": "Nia Reed"},
    ),
    Client(
        organization_id="coast-schools",
        name="Coast Schools",
        time_zone="America/New_York",
        multiplier="1",
        people={
            "u-sam": "Sam Rivers",
            "u-lee": "Lee Park",
            "u-max": "Max Stone",
            "u-joy": "Joy Hill",
        },
    ),
)
# Which models people choose, and how often.
MODEL_WEIGHTS: Mapping[str, int] = {
    "openai/gpt-5-mini": 9,
    "anthropic/claude-haiku-4.5": 5,
    "google/gemini-3-flash": 4,
    "openai/gpt-5-nano": 3,
    "meta-llama/llama-4-scout:free": 2,
}
# How answers come about, and how often; the names are the rows of the printed comparison.
PATH_WEIGHTS: Mapping[str, int] = {
    "first turn": 14,
    "second turn": 12,
    "regenerated": 4,
    "tool loop of three": 5,
    "workspace preset": 4,
    "temporary chat": 3,
    "channel": 2,
    "API, streamed": 4,
    "API, not streamed": 4,
    "cached prompt": 4,
    "own provider key": 2,
    "cost withheld": 2,
    "continued": 3,
    "other connection": 3,
}
TASK_PATH = "background tasks"
NAMES = {user: name for client in CLIENTS for user, name in client.people.items()}
CLIENT_OF = {user: client for client in CLIENTS for user in client.people}
