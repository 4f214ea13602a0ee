"""Whose key paid: the Function reads the connections of its host, and keeps no key."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from shared.capture.webhook import WebhookOwner, original_event
from shared.core.ids import key_hash
from shared.projection.resolution import resolve
from tests.host.bodies import (
    PRESET,
    RECORD,
    chunk,
    generation_id,
    last_chunk,
    metadata,
    outlet,
    usage,
)
from tests.host.plugin import events, expire, session
from tests.support.builders import NOON, turn

HOST = "function"

KEY, OTHER_KEY = "sk-or-v1-of-the-firm", "sk-or-v1-of-another"


class Config:
    """Open WebUI's own settings; `broken` and `stuck` are a database in trouble."""

    def __init__(self) -> None:
        self.asked = 0
        self.state = "well"
        self.freed = asyncio.Event()
        self.values: dict[str, Any] = {
            "openai.api_base_urls": [
                "https://openrouter.ai/api/v1",
                "http://other",
                "http://third",
            ],
            "openai.api_keys": [KEY, OTHER_KEY, ""],
            "openai.api_configs": {"1": {"auth_type": "session"}},
        }

    async def get_many(self, *names: str) -> dict[str, Any]:
        self.asked += 1
        if self.state == "broken":
            raise ConnectionError("no database")
        if self.state == "stuck":
            await self.freed.wait()
        if self.state == "slow":
            await asyncio.sleep(0.005)
        return {name: self.values[name] for name in names if name in self.values}


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    config = Config()
    models = {"openai/gpt-5-mini": RECORD | {"urlIdx": 0}}
    state = SimpleNamespace(OPENAI_MODELS=models)
    for name, value in (
        ("open_webui.models.config", SimpleNamespace(Config=config)),
        ("open_webui.main", SimpleNamespace(app=SimpleNamespace(state=state))),
    ):
        monkeypatch.setitem(__import__("sys").modules, name, value)
    return config


def asked(index: object = 0, **fields: Any) -> dict[str, Any]:
    """Return the metadata of an answer by a model of this connection."""
    return metadata(model=RECORD | {"urlIdx": index}, **fields)


def hashes(plugin: Any) -> list[str]:
    return [event.api_key_hash for event in events(plugin)]


async def test_the_key_of_the_connection_stands_in_the_event_as_a_hash(
    plugin: Any, config: Config
) -> None:
    await plugin.stream(last_chunk(), __metadata__=asked())
    assert hashes(plugin) == [key_hash(KEY)]
    assert KEY not in "".join(event.to_json() for event in events(plugin))
    assert KEY not in repr(vars(plugin._streams._keys))


@pytest.mark.parametrize(
    "answer",
    [
        metadata(model=PRESET),
        metadata(model={"id": "arena", "arena": True}, selected_model_id="openai/gpt-5-mini"),
    ],
    ids=["preset", "arena"],
)
async def test_the_model_behind_a_preset_or_an_arena_has_the_connection(
    plugin: Any, config: Config, answer: dict[str, Any]
) -> None:
    await plugin.stream(last_chunk(), __metadata__=answer)
    assert hashes(plugin) == [key_hash(KEY)]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_each_of_two_models_side_by_side_has_the_key_of_its_own_connection(
    plugin: Any, config: Config, is_streamed: bool
) -> None:
    """Open WebUI leaves the record of the first in the metadata of both."""
    config.values = config.values | {"openai.api_configs": {}}
    first, second = asked(0), asked(0, message_id="message-2")
    await plugin.inlet({}, __metadata__=first, __model__=RECORD | {"urlIdx": 0})
    await plugin.inlet({}, __metadata__=second, __model__=RECORD | {"urlIdx": 1})
    for number, answer in enumerate((first, second), start=1):
        if is_streamed:
            await plugin.stream(last_chunk(number), __metadata__=answer)
        else:
            await plugin.outlet(outlet(name=answer["message_id"]), __metadata__=answer)
    assert hashes(plugin) == [key_hash(KEY), key_hash(OTHER_KEY)]


async def test_an_answer_that_was_not_streamed_has_it_too(plugin: Any, config: Config) -> None:
    await plugin.outlet(outlet(), __metadata__=asked())
    assert hashes(plugin) == [key_hash(KEY)]


async def test_an_answer_that_stays_open_has_it_from_its_first_chunk(
    plugin: Any, config: Config
) -> None:
    await plugin.stream(chunk(content="word"), __metadata__=asked())
    expire(plugin)
    assert hashes(plugin) == [key_hash(KEY)]


async def test_a_running_total_that_expires_has_it_too(plugin: Any, config: Config) -> None:
    await plugin.stream(chunk(content="word", usage=usage()), __metadata__=asked())
    expire(plugin)
    assert hashes(plugin) == [key_hash(KEY)]


@pytest.mark.parametrize("index", [1, 2, 3, -1, True, None, "0", 0.0])
async def test_it_is_none_where_the_connection_sends_no_key_or_is_not_known(
    plugin: Any, config: Config, index: object
) -> None:
    await plugin.stream(last_chunk(), __metadata__=asked(index))
    assert hashes(plugin) == ["none"]


@pytest.mark.parametrize("state", ["broken", "stuck"])
async def test_an_answer_is_booked_while_the_host_cannot_tell(
    plugin: Any, config: Config, state: str
) -> None:
    config.state = state
    for number in range(3):
        await plugin.stream(last_chunk(number), __metadata__=asked())
    assert hashes(plugin) == ["none"] * 3
    assert config.asked == 1  # nor does every answer wait for it
    assert plugin.status().counters == {}


async def test_a_hook_that_waits_while_the_valves_change_keeps_its_spool(
    plugin: Any, config: Config
) -> None:
    config.state = "stuck"
    before = session(plugin)
    waiting = asyncio.create_task(plugin.stream(last_chunk(1), __metadata__=asked()))
    await asyncio.sleep(0)
    plugin.valves = plugin.Valves(spool_dir=str(before.settings.spool_dir), client_org="other")
    await plugin.inlet({}, __metadata__=metadata())
    await waiting
    assert await before.closed(10)
    assert [event.request_id for event in events(plugin)] == [generation_id(1)]
    assert plugin.status().counters == {}


@pytest.mark.parametrize("values", [{}, {"openai.api_keys": "text"}, {"openai.api_configs": [1]}])
async def test_settings_of_another_shape_are_no_reason_to_lose_an_event(
    plugin: Any, config: Config, values: dict[str, Any]
) -> None:
    config.values = values
    await plugin.stream(last_chunk(), __metadata__=asked())
    assert hashes(plugin) == ["none"]


async def test_the_host_is_asked_once_for_many_answers(plugin: Any, config: Config) -> None:
    for number in range(20):
        await plugin.stream(last_chunk(number), __metadata__=asked())
    assert hashes(plugin) == [key_hash(KEY)] * 20
    assert config.asked == 1


async def test_answers_that_begin_at_the_same_time_wait_for_one_reading(
    plugin: Any, config: Config
) -> None:
    config.state = "slow"
    answers = (plugin.stream(last_chunk(number), __metadata__=asked()) for number in range(5))
    await asyncio.gather(*answers)
    assert hashes(plugin) == [key_hash(KEY)] * 5
    assert config.asked == 1


async def test_what_the_host_reported_too_late_is_known_to_the_next_answer(
    plugin: Any, config: Config
) -> None:
    config.state = "stuck"
    await plugin.stream(last_chunk(1), __metadata__=asked())
    config.freed.set()
    await asyncio.sleep(0)
    await plugin.stream(last_chunk(2), __metadata__=asked())
    assert hashes(plugin) == ["none", key_hash(KEY)]
    assert config.asked == 1


async def test_another_key_is_seen_after_a_moment(plugin: Any, config: Config) -> None:
    await plugin.stream(last_chunk(1), __metadata__=asked())
    config.values = config.values | {"openai.api_keys": [OTHER_KEY]}
    plugin._streams._keys._read_at -= 11
    await plugin.stream(last_chunk(2), __metadata__=asked())
    assert hashes(plugin) == [key_hash(KEY), key_hash(OTHER_KEY)]


async def test_the_bill_has_the_hash_that_the_webhook_gives_it(plugin: Any, config: Config) -> None:
    await plugin.stream(last_chunk(), __metadata__=asked())
    (seen,) = events(plugin)
    body = {"request_id": generation_id(), "api_key": KEY, "model": seen.model, "cost": 0.000009}
    posted = original_event(body, WebhookOwner(organizations={}), NOON)
    assert posted.api_key_hash == seen.api_key_hash


def test_a_bill_takes_the_hash_from_the_observer_that_knows_it() -> None:
    """Pipelines cannot tell the key: whichever of the two turns wins, the bill has it."""
    by_function = turn(source="function", api_key_hash=key_hash(KEY))
    for observed in ([by_function, turn()], [turn(), by_function]):
        (bill,) = resolve(observed).bills
        assert bill.event.api_key_hash == key_hash(KEY)
        assert not bill.conflict


def test_one_observation_with_and_without_the_hash_is_one_event() -> None:
    one, other = turn(), turn(api_key_hash=key_hash(KEY))
    assert one.event_id == other.event_id
    (bill,) = resolve([one, other]).bills
    assert (bill.observations, bill.conflict) == (1, False)
