"""Recording over HTTP: durable before the answer, once however often, and never a secret kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.core.ids import key_hash
from shared.spool.sqlite_spool import SqliteSpool
from shared.summary_db.reports import UsageFilter
from tests.support.builders import ALICE, NOON, generation_id, settled
from tests.support.sidecars import ADMIN, SidecarAtHand

KEY = "sk-or-v1-0123456789"
TODAY = UsageFilter(start=NOON.date(), end=NOON.date())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SidecarAtHand]:
    found = SidecarAtHand(tmp_path)
    yield found
    found.close()


def post(desk: SidecarAtHand, **fields: Any) -> Any:
    body = {"model": "openai/gpt-5-mini", "tokens": 18, "cost": 2.025e-05} | fields
    return desk.client.post(f"{ADMIN}/manual-record", json=body)


def billed(desk: SidecarAtHand) -> list[tuple[str, str]]:
    desk.work()
    lines = desk.sidecar.summaries.reports.usage(
        TODAY, ("organization_id", "external_user", "model", "task")
    )
    return [(line.group["external_user"], str(line.amounts.raw_pico_usd)) for line in lines]


def test_the_original_body_is_booked_and_named(desk: SidecarAtHand) -> None:
    answer = post(desk)
    assert answer.status_code == 200
    assert answer.json()["request_id"].startswith("manual:")
    assert answer.json()["outcome"] == "queued"
    assert billed(desk) == [("unknown", "20250000")]


def test_a_record_says_who_and_when_and_to_the_last_digit(desk: SidecarAtHand) -> None:
    answer = post(
        desk,
        user=ALICE,
        organization_id="acme",
        input_tokens=9,
        output_tokens=9,
        cost="0.000000000001",
        occurred_at="2026-11-24T08:00:00+01:00",
    )
    assert answer.json()["occurred_at"] == "2026-11-24T07:00:00Z"
    assert billed(desk) == [(ALICE, "1")]


def test_the_same_key_books_once_also_when_it_comes_much_later(desk: SidecarAtHand) -> None:
    first = post(desk, idempotency_key="invoice-7").json()
    desk.work()
    desk.clock.move(40 * 86_400)
    again = post(desk, idempotency_key="invoice-7").json()
    assert again["outcome"] == "duplicate" or again["occurred_at"] == first["occurred_at"]
    assert again["request_id"] == first["request_id"] == "manual:invoice-7"
    assert billed(desk) == [("unknown", "20250000")]


def test_a_key_that_was_used_for_something_else_is_a_conflict(desk: SidecarAtHand) -> None:
    post(desk, idempotency_key="invoice-7")
    answer = post(desk, idempotency_key="invoice-7", tokens=19)
    assert answer.status_code == 409
    assert "something else" in answer.json()["error"]["message"]


def test_without_a_key_two_records_are_two(desk: SidecarAtHand) -> None:
    post(desk)
    post(desk)
    assert billed(desk) == [("unknown", "40500000")]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"cost": -1}, 422),
        ({"cost": "NaN"}, 422),
        ({"cost": None}, 422),
        ({"tokens": 1.5}, 422),
        ({"model": " padded"}, 422),
        ({"unknown_field": 1}, 422),
        ({"input_tokens": 19}, 409),
        ({"occurred_at": "2026-11-24T08:00:00"}, 422),
    ],
)
def test_what_cannot_be_booked_is_refused_with_its_field(
    desk: SidecarAtHand, fields: dict[str, object], status: int
) -> None:
    answer = post(desk, **fields)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["message"]
    # A split that is more than its total is the total's fault.
    assert error["field"] == ("tokens" if status == 409 else next(iter(fields)))
    assert billed(desk) == []


def test_an_amount_above_the_limit_waits_in_quarantine(desk: SidecarAtHand) -> None:
    assert post(desk, cost="10000.01").json()["outcome"] == "quarantined"


def original(**fields: Any) -> dict[str, Any]:
    return {
        "api_key": KEY,
        "external_user": ALICE,
        "model": "openai/gpt-5-mini",
        "tokens_used": 18,
        "cost": 2.025e-05,
        "timestamp": NOON.isoformat(),
        "request_id": generation_id(),
    } | fields


def hook(desk: SidecarAtHand, body: Any) -> Any:
    return desk.poster.post("/webhook/openrouter-usage", json=body)


def test_a_webhook_body_is_durable_before_the_answer(desk: SidecarAtHand, tmp_path: Path) -> None:
    assert hook(desk, original()).status_code == 200
    spool = SqliteSpool(tmp_path / "spool" / "webhook.sqlite3")
    assert spool.status().queued == 1
    spool.close()


def test_the_key_of_a_webhook_body_is_nowhere_on_disk(
    desk: SidecarAtHand, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hook(desk, original())
    hook(desk, original(model=None))
    desk.work()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 2
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    assert KEY not in caplog.text


def test_a_key_that_was_entered_names_the_organization(desk: SidecarAtHand) -> None:
    desk.client.post(f"{ADMIN}/organizations", json={"organization_id": "acme"})
    hashed = hook(desk, original(request_id=generation_id(2)))
    assert hashed.status_code == 200
    entered = desk.client.put(f"{ADMIN}/organizations/acme/api-keys/{key_hash(KEY)}")
    assert entered.status_code == 204
    hook(desk, original())
    desk.work()
    lines = desk.sidecar.summaries.reports.usage(TODAY, ("organization_id",))
    counts = {line.group["organization_id"]: line.amounts.events for line in lines}
    assert counts == {"acme": 1, "unassigned": 1}


@pytest.mark.parametrize("webhook_first", [True, False])
def test_webhook_and_filter_that_see_one_generation_bill_it_once(
    desk: SidecarAtHand, webhook_first: bool
) -> None:
    if webhook_first:
        hook(desk, original(external_user=None))
    desk.book([settled()])
    if not webhook_first:
        hook(desk, original(external_user=None))
    assert billed(desk) == [(ALICE, "20250000")]


def test_a_broadcast_books_its_generations_and_names_what_it_refused(desk: SidecarAtHand) -> None:
    def span(number: int, **attributes: object) -> dict[str, object]:
        named = {"gen_ai.response.id": generation_id(number), "gen_ai.usage.total_cost": 0.5}
        return {
            "attributes": [
                {
                    "key": key,
                    "value": {"stringValue" if isinstance(value, str) else "doubleValue": value},
                }
                for key, value in (named | attributes).items()
            ]
        }

    spans = [span(1, **{"gen_ai.response.model": "openai/gpt-5-mini"}), span(2)]
    answer = hook(desk, {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
    assert answer.status_code == 200
    assert len(answer.json()["booked"]) == 1
    assert answer.json()["refused"] == ["model: missing"]
    assert billed(desk) == [("unknown", "500000000000")]


def test_the_test_of_a_connection_succeeds_and_books_nothing(desk: SidecarAtHand) -> None:
    assert desk.poster.post("/webhook/openrouter-usage").status_code == 200
    assert hook(desk, {"resourceSpans": []}).json() == {"booked": [], "refused": []}


@pytest.mark.parametrize("raw", [b"{", b"[]", b"\xff", b"[" * 100_000, b'"text"'])
def test_a_body_that_is_none_is_refused(desk: SidecarAtHand, raw: bytes) -> None:
    answer = desk.poster.post("/webhook/openrouter-usage", content=raw)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_value"


def test_a_body_without_what_is_needed_is_refused_with_the_field(desk: SidecarAtHand) -> None:
    answer = hook(desk, {"model": "m"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (409, "timestamp")
    assert hook(desk, {}).status_code == 409


def test_a_full_spool_is_said_and_nothing_is_answered_as_booked(tmp_path: Path) -> None:
    desk = SidecarAtHand(tmp_path, usage_spool_max_mb=1)
    filler = SqliteSpool(tmp_path / "spool" / "webhook.sqlite3", clock=desk.clock)
    filler.put([settled(request_id=generation_id(n)) for n in range(1500)]).result(20)
    filler.close()
    answer = hook(desk, original())
    desk.close()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "spool_full")
