"""The events of the benchmarks: one realistic day of many users, as hooks would book them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from shared.core.event import UsageEvent, new_event
from shared.core.ids import point_time_ns
from shared.spool.port import SpooledRow

USERS = 200
_MODELS = (
    "openai/gpt-5-mini",
    "openai/gpt-5",
    "anthropic/claude-sonnet-4.5",
    "google/gemini-2.5-flash",
    "mistralai/mistral-small",
)
_TASKS = ("chat", "chat", "chat", "title_generation", "tags_generation")


def noon_of_yesterday() -> datetime:
    """Return an instant that lies in yesterday in most zones."""
    today = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    return today - timedelta(days=1)


def day_of_events(count: int, *, organizations: int = 20, seed: int = 1) -> Iterator[UsageEvent]:
    """Return generated bills around noon, in the order of their time."""
    random = Random(seed)
    start = noon_of_yesterday() - timedelta(hours=8)
    for second in sorted(random.randrange(57_600) for _ in range(count)):
        yield _event(random, start + timedelta(seconds=second), organizations)


def observed_again(event: UsageEvent) -> UsageEvent:
    """Return the observation of an event by OpenRouter's own webhook."""
    return new_event(**{**dict(event), "source": "webhook", "cost_source": "webhook"})


def spooled(events: Iterable[UsageEvent]) -> Iterator[SpooledRow]:
    for number, event in enumerate(events, 1):
        place = point_time_ns(event.event_id, event.request_id, event.occurred_at)
        yield SpooledRow(number, "usage", event.event_id, event.to_json(), place, 0)


def _event(random: Random, at: datetime, organizations: int) -> UsageEvent:
    user = random.randrange(USERS)
    prompt, completion = random.randint(20, 6000), random.randint(5, 900)
    return new_event(
        request_id=f"gen-{int(at.timestamp())}-{random.getrandbits(80):020x}",
        grain="generation",
        occurred_at=at,
        client_org_id=f"client-{user % organizations}",
        external_user=str(UUID(int=user)),
        requested_model=_MODELS[user % len(_MODELS)],
        model=random.choice(_MODELS),
        provider="OpenAI",
        task=random.choice(_TASKS),
        source="function",
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=prompt // 2,
        cost_usd=prompt * 2.5e-07 + completion * 2e-06,
        cost_source="response",
        chat_id=str(UUID(int=random.getrandbits(128))),
        message_id=str(UUID(int=random.getrandbits(128))),
        finish_reason="stop",
    )
