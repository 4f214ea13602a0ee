"""Rows are written down for InfluxDB the same way every time."""

from datetime import timedelta
from decimal import Decimal
from json import dumps, loads
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.ids import point_time_ns
from shared.core.rows import HostRow, UserRow
from shared.errors import InvalidEvent
from shared.event_store.influx.line_protocol import derived_milliseconds, escape_key, render_line
from tests.support.builders import (
    ALICE,
    NOON,
    NOON_SECONDS,
    generation_id,
    pending,
    settled,
    unmetered,
)

MILLISECOND = timedelta(milliseconds=1)


def line(row: Any, ns: int = NOON_SECONDS * 10**9 + 7, measurement: str = "usage_events") -> str:
    return render_line(row.kind, row.to_json(), ns, measurement)


def test_an_event_is_six_tags_and_fields_of_one_type_each() -> None:
    event = settled(
        is_byok=True,
        upstream_cost_usd=Decimal("0.5"),
        finish_reason="stop",
        service_tier="flex",
        latency_ms=1234,
        usage_extra='{"a":1}',
    )
    assert line(event) == (
        "usage_events,api_key_hash=none,client_org_id=unassigned,external_user=alice-id,"
        "model=openai/gpt-5-mini,source=function,task=chat "
        "schema_version=1i,input_tokens=9i,output_tokens=9i,total_tokens=18i,cached_tokens=0i,"
        'cache_write_tokens=0i,reasoning_tokens=0i,grain="generation",requested_model="unknown",'
        'provider="unknown",cost_source="response",latency_ms=1234i,'
        f'request_id="{generation_id()}",chat_id="chat-1",message_id="message-1",'
        'finish_reason="stop",service_tier="flex",usage_extra="{\\"a\\":1}",'
        "is_byok=true,cost_pico_usd=20250000i,upstream_pico_usd=500000000000i,"
        f"cost_usd=0.00002025 {NOON_SECONDS}000000007"
    )


def test_only_a_part_of_a_request_has_the_field_that_says_so() -> None:
    assert ",part=1i," in line(settled(part=1))
    assert "part=" not in line(settled())


def test_a_pending_event_has_no_amount_at_all() -> None:
    assert "pico" not in line(pending())
    assert "cost_usd" not in line(pending())


def test_an_estimate_never_stands_in_the_place_of_a_cost() -> None:
    estimate = pending(cost_source="estimate", estimated_cost_usd="0.25")
    assert "estimated_pico_usd=250000000000i" in line(estimate)
    assert ",cost_pico_usd" not in line(estimate) and ",cost_usd" not in line(estimate)


def test_what_would_split_a_line_is_escaped() -> None:
    event = settled(model="a b,c=d\\e", chat_id='say "hi" \\o/', client_org_id="x\ny")
    assert ",model=a\\ b\\,c\\=d\\e," in line(event)
    assert 'chat_id="say \\"hi\\" \\\\o/"' in line(event)
    assert ",client_org_id=x\\ y," in line(event)
    assert escape_key("my usage,events") == "my\\ usage\\,events"


def test_the_other_rows_have_measurements_of_their_own() -> None:
    host = HostRow(
        host_id="host-1",
        occurred_at=NOON,
        host_kind="function",
        version="1.0.0",
        started_at=NOON,
        hook_p50_ms=0.5,
        counters={"put": 2},
    )
    user = UserRow(user_id=ALICE, occurred_at=NOON, name="Alice", email="alice@example.com")
    assert line(unmetered(), NOON_SECONDS * 10**9).startswith(
        "usage_unmetered,client_org_id=unassigned,external_user=alice-id,"
        "model=openai/gpt-5-mini,task=title_generation schema_version=1i,"
    )
    assert 'hook_p50_ms=0.5,started_at="2026-11-24T12:00:00Z",' in line(host)
    assert 'counters="{\\"put\\":2}"' in line(host)
    assert line(host).startswith("usage_hosts,host_id=host-1,host_kind=function ")
    assert line(user, 5 * 10**6) == (
        'usage_users,user_id=alice-id schema_version=1i,name="Alice",email="alice@example.com",'
        f"occurred_at_ms={NOON_SECONDS}000i 5000000"
    )


@given(st.integers(0, 999), st.booleans(), st.booleans())
def test_the_instant_of_an_event_can_always_be_told_from_its_line(
    milliseconds: int, has_seconds: bool, is_early: bool
) -> None:
    at = NOON + milliseconds * MILLISECOND
    request_id = generation_id(1, NOON_SECONDS - is_early) if has_seconds else "turn:c:m"
    event = settled(request_id=request_id, occurred_at=at)
    ns = point_time_ns(event.event_id, request_id, at)
    written = line(event, ns)
    expected = NOON_SECONDS * 1000 + milliseconds
    is_told = f"occurred_at_ms={expected}i" in written
    assert is_told is not (derived_milliseconds(ns, request_id) == expected)
    assert ns // 10**9 == NOON_SECONDS


@given(st.permutations(["model", "task", "cost_usd", "request_id"]))
def test_the_order_of_the_stored_json_does_not_matter(names: list[str]) -> None:
    stored = loads(settled().to_json())
    shuffled = {name: stored.pop(name) for name in names} | stored
    ns = NOON_SECONDS * 10**9
    assert render_line("usage", dumps(shuffled), ns, "m") == line(settled(), ns, "m")


def test_a_row_without_the_fields_of_later_versions_gets_their_defaults() -> None:
    stored = loads(settled().to_json())
    for name in ("api_key_hash", "reasoning_tokens", "is_byok", "schema_version"):
        del stored[name]
    ns = NOON_SECONDS * 10**9
    assert render_line("usage", dumps(stored), ns, "m") == line(settled(), ns, "m")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("usage", "{"),
        ("usage", "[]"),
        ("usage", "{}"),
        ("usage", '{"request_id":null}'),
        ("usage", settled().to_json().replace('"0.00002025"', '"much"')),
        ("usage", settled().to_json().replace('"total_tokens":18', '"total_tokens":"x"')),
        ("user", "{}"),
        ("poem", "{}"),
    ],
)
def test_a_damaged_row_is_refused(kind: str, text: str) -> None:
    with pytest.raises(InvalidEvent):
        render_line(kind, text, 0, "m")


def test_a_tag_that_would_break_its_line_is_refused_even_in_a_forged_row() -> None:
    forged = loads(settled().to_json()) | {"model": "m x=1i\nusage_events,a=b c=1i"}
    with pytest.raises(InvalidEvent):
        render_line("usage", dumps(forged), 0, "m")
