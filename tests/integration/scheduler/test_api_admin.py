"""The admin's API: what is entered counts, also for the past; figures, events and files agree."""

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from scheduler.services.exports import safe_cell
from shared.core.rows import UserRow
from tests.support.builders import (
    ALICE,
    BOB,
    NOON,
    NOON_SECONDS,
    generation_id,
    pending,
    settled,
    unmetered,
)
from tests.support.sidecars import ADMIN, SidecarAtHand
from tests.support.waiting import wait_for

TODAY = {"start": "2026-11-24", "end": "2026-11-24"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SidecarAtHand]:
    found = SidecarAtHand(tmp_path)
    yield found
    found.close()


def get(desk: SidecarAtHand, path: str, **params: Any) -> Any:
    answer = desk.client.get(f"{ADMIN}/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def send(desk: SidecarAtHand, method: str, path: str, status: int = 200, **body: Any) -> Any:
    answer = desk.client.request(method, f"{ADMIN}/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def traffic(desk: SidecarAtHand) -> None:
    """Four generations of Alice and Bob, one of them pending, and a title nobody priced."""
    desk.book(
        [
            settled(),
            settled(request_id=generation_id(2), external_user=BOB, message_id="m-2"),
            settled(request_id=generation_id(3), model="anthropic/claude", message_id="m-3"),
            pending(request_id=generation_id(4), message_id="m-4"),
            unmetered(),
            UserRow(user_id=ALICE, occurred_at=NOON, name="=Alice", email="alice@example.org"),
        ]
    )


def test_figures_are_exact_by_any_side_and_name_people(desk: SidecarAtHand) -> None:
    traffic(desk)
    found = get(desk, "summaries", **TODAY, group_by=["external_user", "day"])
    assert [(line["group"], line["user_name"]) for line in found["lines"]] == [
        ({"external_user": ALICE, "day": "2026-11-24"}, "=Alice"),
        ({"external_user": BOB, "day": "2026-11-24"}, None),
    ]
    assert found["total"]["raw_usd"] == "0.00006075"
    assert found["total"]["billed_usd"] == "0.000078975"
    assert (found["total"]["events"], found["total"]["pending"]) == (4, 1)


def test_pages_tell_where_the_next_one_begins(desk: SidecarAtHand) -> None:
    traffic(desk)
    first = get(desk, "summaries", **TODAY, group_by="model", limit=1)
    assert first["next_offset"] == 1
    second = get(desk, "summaries", **TODAY, group_by="model", limit=1, offset=1)
    assert second["next_offset"] is None
    models = [line["group"]["model"] for line in (*first["lines"], *second["lines"])]
    assert models == ["anthropic/claude", "openai/gpt-5-mini"]


def test_the_events_behind_a_figure_add_up_to_it(desk: SidecarAtHand) -> None:
    traffic(desk)
    desk.book([settled(request_id=generation_id(5), part=1)])
    wanted = TODAY | {"model": "openai/gpt-5-mini", "organization_id": "unassigned"}
    figure = get(desk, "summaries", **wanted)["total"]
    found: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = get(desk, "events", **wanted, limit=2, **after)
        found += page["events"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert len({event["request_id"] for event in found}) == len(found) == 4
    assert sum(event["requests"] for event in found) == figure["events"] == 3
    costs = [event["cost_usd"] for event in found]
    assert sum(Decimal(cost) for cost in costs if cost) == Decimal(figure["raw_usd"])
    assert costs.count(None) == figure["pending"] == 1


def test_completeness_names_what_is_not_known(desk: SidecarAtHand) -> None:
    traffic(desk)
    found = get(desk, "completeness", **TODAY)
    assert found == {
        "booked": 4,
        "settled": 3,
        "pending": 1,
        "estimated": 0,
        "unmetered": 1,
        "conflicts": 0,
        "coverage_percent": "60.00",
    }
    [line] = get(desk, "unmetered", **TODAY, group_by=["day", "task"])["lines"]
    assert line == {
        "group": {"day": "2026-11-24", "task": "title_generation"},
        "generations": 1,
    }


def test_an_organization_is_added_changed_and_listed(desk: SidecarAtHand) -> None:
    added = send(desk, "POST", "organizations", 201, organization_id="acme", markup="1.5")
    assert added["rates"] == [{"valid_from": "1970-01-01", "markup": "1.5"}]
    assert added["time_zone"] == "Europe/Warsaw"
    changed = send(desk, "PATCH", "organizations/acme", name="Acme", currency="PLN")
    assert (changed["name"], changed["currency"], changed["is_active"]) == ("Acme", "PLN", True)
    assert get(desk, "organizations") == [changed]
    again = desk.client.post(f"{ADMIN}/organizations", json={"organization_id": "acme"})
    assert again.status_code == 409


def test_a_dated_markup_changes_the_bill_of_its_days_alone(desk: SidecarAtHand) -> None:
    traffic(desk)
    send(desk, "PUT", "organizations/unassigned/rates", markup="2", valid_from="2026-11-25")
    desk.work()
    assert get(desk, "summaries", **TODAY)["total"]["billed_usd"] == "0.000078975"
    send(desk, "PUT", "organizations/unassigned/rates", markup="2", valid_from="2026-11-24")
    desk.work()
    assert get(desk, "summaries", **TODAY)["total"]["billed_usd"] == "0.0001215"


def test_a_corrected_assignment_moves_the_days_it_touches(desk: SidecarAtHand) -> None:
    traffic(desk)
    for name in ("acme", "globex"):
        send(desk, "POST", "organizations", 201, organization_id=name)
    made = send(desk, "POST", "assignments", 201, external_user=ALICE, organization_id="acme")
    desk.work()

    def by_organization() -> dict[str, int]:
        lines = get(desk, "summaries", **TODAY, group_by="organization_id")["lines"]
        return {line["group"]["organization_id"]: line["amounts"]["events"] for line in lines}

    assert by_organization() == {"acme": 3, "unassigned": 1}
    path = f"assignments/{made['assignment_id']}"
    corrected: dict[str, Any] = {
        "organization_id": "globex",
        "valid_from": "1970-01-01T00:00:00Z",
    }
    send(desk, "PUT", path, **corrected)
    desk.work()
    assert by_organization() == {"globex": 3, "unassigned": 1}
    assert desk.client.delete(f"{ADMIN}/{path}").status_code == 204
    desk.work()
    assert by_organization() == {"unassigned": 4}
    assert desk.client.delete(f"{ADMIN}/{path}").status_code == 404


@pytest.mark.parametrize("name", ["a/b", "/", "a%2Fb", "a b/c?d#e", "zażółć/="])
def test_an_organization_is_found_under_any_name_it_may_have(
    desk: SidecarAtHand, name: str
) -> None:
    written = f"organizations/{quote(name, safe='')}"
    send(desk, "POST", "organizations", 201, organization_id=name, markup="1.5")
    assert send(desk, "PATCH", written, name="Acme")["organization_id"] == name
    rates = send(desk, "PUT", f"{written}/rates", markup="2", valid_from="2026-11-01")["rates"]
    assert [each["markup"] for each in rates] == ["1.5", "2"]
    assert get(desk, written)["name"] == "Acme"
    assert get(desk, f"{written}/statement", **TODAY)["organization_id"] == name
    assert desk.client.get(f"{ADMIN}/{written}%2Fstatement").status_code == 404


@pytest.mark.parametrize("name", ["a\tb", "a\n", "\\", " a", "a "])
def test_a_name_that_no_store_can_carry_is_refused_in_words(desk: SidecarAtHand, name: str) -> None:
    problem = send(desk, "POST", "organizations", 422, organization_id=name)["error"]
    assert problem["message"] == (
        "organization_id: must be printable: no tab, line break or backslash, "
        "no space at either end"
    )


def test_a_user_whose_id_holds_a_slash_is_erased(desk: SidecarAtHand) -> None:
    desk.book([settled(), UserRow(user_id="a/b", occurred_at=NOON, name="Bob")])
    wait_for(lambda: get(desk, "users"))
    assert send(desk, "DELETE", "users/a%2Fb")["profile_erased"]
    assert get(desk, "users") == []


def test_an_inactive_organization_gets_nobody_new(desk: SidecarAtHand) -> None:
    send(desk, "POST", "organizations", 201, organization_id="acme", is_active=False)
    body = {"external_user": ALICE, "organization_id": "acme"}
    answer = desk.client.post(f"{ADMIN}/assignments", json=body)
    assert answer.json()["error"]["code"] == "inactive"


def test_a_statement_converts_each_day_and_says_which_rate_it_borrowed(desk: SidecarAtHand) -> None:
    send(desk, "POST", "organizations", 201, organization_id="acme", currency="PLN", markup="1")
    send(desk, "POST", "assignments", 201, external_user=ALICE, organization_id="acme")
    tomorrow = NOON_SECONDS + 86_400
    desk.clock.move(2 * 86_400)
    desk.book(
        [
            settled(cost_usd=100),
            settled(
                request_id=generation_id(2, tomorrow),
                occurred_at=NOON + timedelta(days=1),
                cost_usd="0.000000000001",
            ),
        ]
    )
    path = "organizations/acme/statement"
    span = {"start": "2026-11-01", "end": "2026-11-30"}
    unpriced = get(desk, path, **span)
    assert unpriced["amount"] is None
    assert unpriced["days_without_rate"] == ["2026-11-24", "2026-11-25"]
    send(desk, "PUT", "exchange-rates", currency="PLN", local_date="2026-11-24", rate="4.0215")
    priced = get(desk, path, **span)
    assert (priced["amount"], priced["currency"]) == ("402.15", "PLN")
    assert priced["billed_usd"] == "100.000000000001"
    assert [rate["is_own"] for rate in priced["rates"]] == [True, False]
    assert "1 days have no rate of their own" in priced["notes"][0]


def test_rates_come_from_csv_all_or_none(desk: SidecarAtHand) -> None:
    head = "currency,date,rate,source\n"

    def upload(text: str) -> Any:
        return desk.client.post(f"{ADMIN}/exchange-rates/csv", content=text.encode())

    good = upload(head + "PLN,2026-11-24,4.0215,NBP\nEUR,2026-11-24,0.9,ECB\n")
    assert good.json() == {"entered": 2}
    bad = upload(head + "PLN,2026-11-23,4.1,NBP\nPLN,2026-11-22,-4,NBP\n")
    assert (bad.status_code, "line 3" in bad.json()["error"]["message"]) == (409, True)
    assert upload("day,rate\n").status_code == 409
    assert len(get(desk, "exchange-rates")["rates"]) == 2
    assert [rate["currency"] for rate in get(desk, "exchange-rates", currency="EUR")["rates"]] == [
        "EUR"
    ]


def test_an_asked_for_batch_is_on_record_at_once_and_ends_with_counts(desk: SidecarAtHand) -> None:
    traffic(desk)
    asked = send(desk, "POST", "batches", 202, start="2026-11-20", end="2026-11-24")
    assert asked["state"] == "running"
    wait_for(lambda: get(desk, "batches")["requests"][0]["state"] != "running")
    ended = get(desk, "batches")["requests"][0]
    assert (ended["request_id"], ended["state"]) == (asked["request_id"], "done")
    assert (ended["days"], ended["failed_days"]) == (5, 0)
    assert {run["local_date"] for run in get(desk, "batches")["runs"]} >= {"2026-11-20"}


def test_the_original_routes_answer(desk: SidecarAtHand) -> None:
    body = {"processing_date": "2026-11-23", "force_reprocess": True}
    asked = desk.client.post("/admin/trigger-batch", json=body)
    assert (asked.status_code, asked.json()["start"]) == (202, "2026-11-23")
    assert desk.client.post("/admin/trigger-batch", json={}).json()["start"] == "2026-11-23"
    status = desk.client.get("/admin/batch-status")
    assert {job["name"] for job in status.json()["jobs"]} >= {"drain", "refresh", "daily"}


def test_legacy_mode_is_said(desk: SidecarAtHand) -> None:
    desk.book([settled()])
    status = get(desk, "service-status")
    assert status["influxdb_first_enabled"] is False
    assert status["note"].startswith("Legacy mode")
    assert status["write_p99_ms"] > 0
    assert get(desk, "influxdb-health")["healthy"] is True


def test_a_change_of_a_final_day_is_in_the_log_with_old_and_new(desk: SidecarAtHand) -> None:
    desk.book([settled()])
    desk.clock.move(4 * 86_400)
    desk.sidecar.project(NOON.date(), NOON.date())
    send(desk, "PUT", "organizations/unassigned/rates", markup="2")
    desk.work()
    [correction] = get(desk, "corrections")["corrections"]
    assert correction["old"]["billed_usd"] == "0.000026325"
    assert correction["new"]["billed_usd"] == "0.0000405"
    assert "rate of unassigned" in correction["why"]


def test_two_amounts_for_one_bill_are_listed(desk: SidecarAtHand) -> None:
    desk.book([settled(), settled(source="settlement", cost_usd=1)])
    [finding] = get(desk, "findings", **TODAY)["findings"]
    assert (finding["kind"], finding["request_id"]) == ("conflict", generation_id())


def test_a_file_holds_every_line_and_no_formula(desk: SidecarAtHand) -> None:
    traffic(desk)
    answer = desk.client.get(
        f"{ADMIN}/exports/summaries", params=TODAY | {"group_by": ["external_user"]}
    )
    assert "summaries.csv" in answer.headers["content-disposition"]
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert [line["external_user"] for line in lines] == [ALICE, BOB]
    assert lines[0]["user_name"] == "'=Alice"
    as_json = get(desk, "exports/summaries", **TODAY, format="json", group_by="external_user")
    assert [line["billed_usd"] for line in as_json] == [line["billed_usd"] for line in lines]


def test_events_are_exported_as_they_are_listed(desk: SidecarAtHand) -> None:
    traffic(desk)
    listed = get(desk, "events", **TODAY)["events"]
    assert get(desk, "exports/events", **TODAY, format="json") == listed
    text = desk.client.get(f"{ADMIN}/exports/events", params=TODAY).text
    assert len(list(csv.DictReader(io.StringIO(text)))) == len(listed) == 4
    yesterday = {"start": "2026-11-23", "end": "2026-11-23", "format": "json"}
    assert get(desk, "exports/events", **yesterday) == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_a_spreadsheet_would_run_becomes_text(start: str) -> None:
    assert safe_cell(f"{start}cmd") == f"'{start}cmd"
    assert safe_cell("plain") == "plain"
    assert safe_cell(-1) == -1


def test_erasing_a_user_forgets_the_profile_and_keeps_the_bill(desk: SidecarAtHand) -> None:
    traffic(desk)
    assert get(desk, "users") == [{"user_id": ALICE, "name": "=Alice"}]
    before = get(desk, "summaries", **TODAY)["total"]
    answer = send(desk, "DELETE", f"users/{ALICE}")
    assert answer["profile_erased"] is True
    assert answer["events_changed"] is None
    desk.work()
    assert get(desk, "users") == []
    assert get(desk, "summaries", **TODAY)["total"] == before


def test_erasing_events_puts_an_alias_in_place_and_changes_no_total(
    desk: SidecarAtHand, tmp_path: Path
) -> None:
    send(desk, "POST", "organizations", 201, organization_id="acme", markup="3")
    send(desk, "POST", "assignments", 201, external_user=ALICE, organization_id="acme")
    traffic(desk)
    before = get(desk, "summaries", **TODAY, group_by=["organization_id", "model"])
    answer = desk.client.delete(f"{ADMIN}/users/{ALICE}", params={"events": True}).json()
    assert answer["events_changed"] == 3
    wait_for(lambda: get(desk, "batches")["requests"][0]["state"] == "done")
    desk.work()
    assert get(desk, "summaries", **TODAY, group_by=["organization_id", "model"]) == before
    people = get(desk, "summaries", **TODAY, group_by="external_user")["lines"]
    assert {line["group"]["external_user"] for line in people} == {BOB, answer["alias"]}
    held = [event["external_user"] for event in get(desk, "events", **TODAY)["events"]]
    assert ALICE not in held
    assert desk.sidecar.verify(NOON.date(), NOON.date()) == []


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"start": "2026-11-25", "end": "2026-11-24"}, 409),
        ({"start": "0001-01-01", "end": "2026-11-24"}, 409),
        ({"start": "1990-01-01", "end": "2026-11-24"}, 409),
        ({"start": "yesterday", "end": "2026-11-24"}, 422),
        ({"start": "2026-11-24"}, 422),
        (TODAY | {"group_by": "colour"}, 422),
        (TODAY | {"limit": "0"}, 422),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    desk: SidecarAtHand, params: dict[str, str], status: int
) -> None:
    answer = desk.client.get(f"{ADMIN}/summaries", params=params)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
