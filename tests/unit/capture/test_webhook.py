"""The original webhook body: a key is hashed, nothing is guessed, twice is once."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from shared.capture.webhook import WebhookOwner, original_event
from shared.core.event import UsageEvent
from shared.core.ids import key_hash
from shared.errors import InvalidEvent
from tests.support.builders import ALICE, NOON, generation_id

KEY = "sk-or-v1-0123456789"
OWNER = WebhookOwner(organizations={key_hash(KEY): "acme"}, default="house")


def body(**fields: Any) -> dict[str, Any]:
    return {
        "api_key": KEY,
        "external_user": ALICE,
        "model": "openai/gpt-5-mini",
        "tokens_used": 1000,
        "cost": 7.4e-7,
        "timestamp": "2026-11-24T12:00:00Z",
    } | fields


def read(**fields: Any) -> UsageEvent:
    return original_event(body(**fields), OWNER, NOON)


def test_the_key_becomes_a_hash_and_an_organization_and_is_not_kept() -> None:
    event = read()
    assert (event.client_org_id, event.api_key_hash) == ("acme", key_hash(KEY))
    assert KEY not in event.to_json()


def test_an_unknown_key_belongs_to_the_default_organization() -> None:
    assert read(api_key="sk-or-other").client_org_id == "house"
    assert read(api_key=None).api_key_hash == "none"


def test_the_split_of_tokens_is_unknown_and_not_guessed() -> None:
    event = read()
    assert (event.total_tokens, event.input_tokens, event.output_tokens) == (1000, 0, 0)


def test_the_cost_is_exact_and_ranks_as_a_webhook() -> None:
    assert read().cost_usd == Decimal("0.00000074")
    assert read().cost_source == "webhook"
    assert read(cost="0.00000074").cost_usd == read().cost_usd


@pytest.mark.parametrize("cost", [None, -1, "much", True])
def test_an_unusable_cost_makes_the_event_pending(cost: object) -> None:
    event = read(cost=cost)
    assert (event.cost_usd, event.cost_source) == (None, "none")


def test_openrouters_id_is_kept_so_that_webhook_and_filter_are_one_bill() -> None:
    assert read(request_id=generation_id()).request_id == generation_id()


def test_any_other_id_cannot_name_a_turn_or_a_manual_record() -> None:
    assert read(request_id="turn:chat:message").request_id == "webhook:turn:chat:message"


def test_the_same_body_without_an_id_is_one_event_and_another_body_is_not() -> None:
    assert read().request_id == read().request_id
    assert read().request_id != read(tokens_used=1001).request_id


def test_without_id_and_time_a_body_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="timestamp: missing"):
        read(timestamp=None)


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-11-24T12:00:00Z",
        "2026-11-24T12:00:00",
        "2026-11-24T13:00:00+01:00",
        "2026-11-24T12:00:00+00:00Z",
        1795521600,
        1795521600000,
    ],
)
def test_every_form_of_time_is_the_same_instant(timestamp: object) -> None:
    assert read(timestamp=timestamp).occurred_at == datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_without_a_user_another_observation_may_know_it() -> None:
    assert read(external_user=None).external_user == "unknown"
    assert read(external_user="", user_id="bob-id").external_user == "bob-id"


@pytest.mark.parametrize("model", [None, "", 7, "x" * 200])
def test_a_body_without_a_model_is_refused(model: object) -> None:
    with pytest.raises(InvalidEvent, match="model"):
        read(model=model)


def test_a_key_of_absurd_length_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidEvent) as caught:
        read(api_key="s" * 600)
    assert "sss" not in str(caught.value)
