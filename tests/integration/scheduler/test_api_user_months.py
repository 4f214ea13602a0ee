"""The route of a user's own months: one user's figures, exact, behind a token of its own."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.builders import (
    ALICE,
    BOB,
    CHARLIE,
    NOON,
    generation_id,
    pending,
    settled,
    unmetered,
)
from tests.support.sidecars import ADMIN, TOKEN, USER_TOKEN, WEBHOOK_TOKEN, SidecarAtHand

MONTHS = "/api/v1/user/months"
OCTOBER = NOON - timedelta(days=31)
TOKYO_MIDNIGHT = datetime(2026, 11, 30, 15, 0, tzinfo=UTC)  # 1 December there


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SidecarAtHand]:
    found = SidecarAtHand(tmp_path)
    yield found
    found.close()


def october(number: int, **fields: Any) -> Any:
    made_of = {"request_id": generation_id(number, int(OCTOBER.timestamp()))}
    return settled(occurred_at=OCTOBER, message_id=f"m-{number}", **(made_of | fields))


def traffic(desk: SidecarAtHand) -> None:
    desk.book(
        [
            settled(cost_usd="12.345678901234"),
            settled(request_id=generation_id(2), model="anthropic/claude", message_id="m-2"),
            pending(request_id=generation_id(3), message_id="m-3"),
            october(4, cost_usd=2),
            unmetered(),
            settled(request_id=generation_id(5), external_user=BOB, cost_usd=7, message_id="m-5"),
            october(6, external_user=BOB, model="bobs/own", cost_usd=9),
        ]
    )


def ask(desk: SidecarAtHand, user: str, token: str | None = USER_TOKEN) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return desk.stranger.get(MONTHS, params={"external_user": user}, headers=headers)


def months(desk: SidecarAtHand, user: str) -> Any:
    answer = ask(desk, user)
    assert answer.status_code == 200, answer.text
    return answer.json()


def summary(desk: SidecarAtHand, user: str, start: str, end: str) -> Any:
    params = {"start": start, "end": end, "external_user": user, "group_by": "model"}
    answer = desk.client.get(f"{ADMIN}/summaries", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("user", [ALICE, BOB])
@pytest.mark.parametrize(("cost", "amount"), [("raw", "raw_usd"), ("billed", "billed_usd")])
def test_both_months_are_the_admins_figures_of_this_user_to_the_last_digit(
    tmp_path: Path, user: str, cost: str, amount: str
) -> None:
    desk = SidecarAtHand(tmp_path, usage_user_cost=cost)
    traffic(desk)
    found = months(desk, user)
    desk_says = [summary(desk, user, month["start"], month["end"]) for month in found["months"]]
    desk.close()
    assert found["cost"] == cost
    for month, said in zip(found["months"], desk_says, strict=True):
        total = said["total"]
        assert month["cost_usd"] == total[amount]
        for name in ("events", "pending", "input_tokens", "output_tokens", "total_tokens"):
            assert month[name] == total[name]
        assert {each["model"]: each["cost_usd"] for each in month["models"]} == {
            line["group"]["model"]: line["amounts"][amount] for line in said["lines"]
        }


def test_it_shows_the_dearest_model_first_and_counts_what_has_no_cost(desk: SidecarAtHand) -> None:
    traffic(desk)
    this, before = months(desk, ALICE)["months"]
    assert (this["start"], this["end"]) == ("2026-11-01", "2026-11-24")
    assert (before["start"], before["end"]) == ("2026-10-01", "2026-10-31")
    assert (this["cost_usd"], before["cost_usd"]) == ("12.345699151234", "2")
    assert [each["model"] for each in this["models"]] == ["openai/gpt-5-mini", "anthropic/claude"]
    assert (this["pending"], this["unmetered"]) == (1, 1)
    assert (before["pending"], before["unmetered"]) == (0, 0)


def test_it_says_nothing_of_anybody_else(desk: SidecarAtHand) -> None:
    traffic(desk)
    answer = ask(desk, ALICE).text
    assert BOB not in answer
    assert "bobs/own" not in answer
    assert {month["events"] for month in months(desk, CHARLIE)["months"]} == {0}


def test_only_one_of_the_two_amounts_is_ever_sent(tmp_path: Path) -> None:
    desk = SidecarAtHand(tmp_path, usage_user_cost="billed")
    desk.book([settled(cost_usd=2)])
    answer = ask(desk, ALICE).text
    desk.close()
    assert '"2.6"' in answer
    assert '"2"' not in answer
    assert "raw_usd" not in answer


def test_without_a_user_there_is_no_answer(desk: SidecarAtHand) -> None:
    headers = {"Authorization": f"Bearer {USER_TOKEN}"}
    assert desk.stranger.get(MONTHS, headers=headers).status_code == 422
    assert ask(desk, "").status_code == 422
    assert desk.stranger.post(MONTHS, headers=headers).status_code == 405


@pytest.mark.parametrize("token", [None, "wrong", TOKEN, WEBHOOK_TOKEN])
def test_no_other_token_opens_it(desk: SidecarAtHand, token: str | None) -> None:
    answer = ask(desk, ALICE, token)
    assert answer.status_code == 401
    assert "USAGE_USER_TOKEN" in answer.json()["error"]["message"]


def test_its_token_opens_nothing_else(desk: SidecarAtHand) -> None:
    headers = {"Authorization": f"Bearer {USER_TOKEN}"}
    assert desk.stranger.get(f"{ADMIN}/service-status", headers=headers).status_code == 401
    assert desk.stranger.post("/webhook/openrouter-usage", headers=headers).status_code == 401
    assert desk.stranger.get("/api/v1/user", headers=headers).status_code == 401


def test_it_is_closed_without_a_token_and_says_which_setting_opens_it(tmp_path: Path) -> None:
    desk = SidecarAtHand(tmp_path, usage_user_token=None)
    answers = [ask(desk, ALICE, token) for token in (None, "", "None", TOKEN)]
    desk.close()
    assert {answer.status_code for answer in answers} == {403}
    assert "USAGE_USER_TOKEN" in answers[0].json()["error"]["message"]


def test_who_guesses_its_token_is_not_heard_any_more(desk: SidecarAtHand) -> None:
    codes = [ask(desk, ALICE, f"wrong-{number}").status_code for number in range(6)]
    assert codes == [401] * 5 + [429]
    assert ask(desk, ALICE).status_code == 429
    desk.clock.move(61)
    assert ask(desk, ALICE).status_code == 200


def test_the_month_is_that_of_the_organization_the_user_is_in(desk: SidecarAtHand) -> None:
    body = {"organization_id": "acme", "name": "Acme", "time_zone": "Asia/Tokyo"}
    desk.client.post(f"{ADMIN}/organizations", json=body)
    body = {"external_user": ALICE, "organization_id": "acme"}
    desk.client.post(f"{ADMIN}/assignments", json=body)
    desk.clock.time = TOKYO_MIDNIGHT
    assert [months(desk, user)["time_zone"] for user in (ALICE, BOB)] == [
        "Asia/Tokyo",
        "Europe/Warsaw",
    ]
    assert [months(desk, user)["months"][0]["start"] for user in (ALICE, BOB)] == [
        "2026-12-01",
        "2026-11-01",
    ]


def test_who_has_no_assignment_lives_where_the_last_bill_went(desk: SidecarAtHand) -> None:
    body = {"organization_id": "acme", "name": "Acme", "time_zone": "Asia/Tokyo"}
    desk.client.post(f"{ADMIN}/organizations", json=body)
    desk.book([settled(client_org_id="acme")])
    assert months(desk, ALICE)["time_zone"] == "Asia/Tokyo"


def test_it_says_when_the_figures_were_last_brought_up_to_date(desk: SidecarAtHand) -> None:
    assert months(desk, ALICE)["as_of"] is None
    desk.sidecar.run_job("refresh")
    looked_at = desk.clock.now()
    desk.clock.move(30)
    assert datetime.fromisoformat(months(desk, ALICE)["as_of"]) == looked_at


def test_a_passive_sidecar_answers_too(tmp_path: Path) -> None:
    active, passive = SidecarAtHand(tmp_path), SidecarAtHand(tmp_path)
    active.book([settled()])
    found = months(passive, ALICE)
    for desk in (active, passive):
        desk.close()
    assert found["months"][0]["cost_usd"] == "0.00002025"
