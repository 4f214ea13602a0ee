"""Managing on the pages: each step says what it will do, in numbers, and then does it."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from shared.core.rows import HostRow
from tests.support.builders import ALICE, BOB, NOON, generation_id, settled
from tests.support.pages import (
    Visitor,
    sidecar_on,
    signed_in,
    text_of,
    value_at,
)
from tests.support.services.postgres import DATABASES
from tests.support.sidecars import ADMIN, SidecarAtHand
from tests.support.spools import spooled
from tests.support.waiting import wait_for


@pytest.fixture(params=DATABASES)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SidecarAtHand]:
    with sidecar_on(request.param, tmp_path) as found:
        alice = settled(cost_usd=2)
        bob = settled(request_id=generation_id(2), external_user=BOB, cost_usd=3, message_id="m-2")
        found.book([alice, bob])
        yield found


@pytest.fixture
def visitor(desk: SidecarAtHand) -> Iterator[Visitor]:
    with signed_in(desk) as found:
        yield found


def add_acme(visitor: Visitor) -> None:
    page = "/ui/organizations"
    visitor.submit(page, page, organization_id="acme", name="Acme", markup="1.5")


def test_an_organization_is_added_and_shown(visitor: Visitor) -> None:
    add_acme(visitor)
    assert "Acme" in text_of(visitor.page("/ui/organizations"))
    page = text_of(visitor.page("/ui/organization", organization_id="acme"))
    assert "from ever \u00d7 1.5" in page


def test_several_users_are_assigned_at_once_after_a_look_at_the_numbers(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    add_acme(visitor)
    page = "/ui/assignments"
    assert 'value="bob-id"' in visitor.page(page)
    wanted = {"user": [ALICE, BOB], "organization_id": "acme", "valid_from": ""}
    asked = text_of(visitor.submit(page, page, **wanted))
    assert "2 users will belong to Acme, for all their days" in asked
    moves = "2 events on 1 days, at a cost of 5 USD, go from whom the host names to Acme."
    assert moves in asked
    assert desk.client.get(f"{ADMIN}/assignments").json() == []
    visitor.submit(page, page, **wanted, confirmed="true")
    desk.work()
    assert "Everybody who used something" in text_of(visitor.page(page))
    shown = visitor.page("/ui/usage", organization_id="acme")
    assert value_at(shown, "total-billed") == "7.5"


def test_an_assignment_is_taken_back(desk: SidecarAtHand, visitor: Visitor) -> None:
    add_acme(visitor)
    wanted = {"external_user": ALICE, "organization_id": "acme"}
    made = desk.client.post(f"{ADMIN}/assignments", json=wanted).json()
    desk.work()
    form = {"assignment_id": str(made["assignment_id"])}
    asked = text_of(visitor.submit("/ui/assignments", "/ui/assignments/remove", **form))
    moves = "1 events on 1 days, at a cost of 2 USD, go from Acme to whom the host names."
    assert moves in asked
    visitor.submit("/ui/assignments", "/ui/assignments/remove", **form, confirmed="true")
    assert desk.client.get(f"{ADMIN}/assignments").json() == []


def add_globex(visitor: Visitor) -> None:
    visitor.submit("/ui/organizations", "/ui/organizations", organization_id="globex")


def correct(visitor: Visitor, number: int, **form: str) -> httpx.Response:
    page = f"/ui/assignment?assignment_id={number}"
    form = {"assignment_id": str(number)} | form
    return visitor.send("/ui/assignment", csrf=visitor.csrf(page), **form)


def made_assignment(desk: SidecarAtHand, **more: str) -> int:
    body = {"external_user": ALICE, "organization_id": "acme", **more}
    made = desk.client.post(f"{ADMIN}/assignments", json=body).json()
    return int(made["assignment_id"])


def assignments_of(desk: SidecarAtHand) -> list[tuple[str | None, str]]:
    found = desk.client.get(f"{ADMIN}/assignments").json()
    return [(each["organization_id"], each["valid_from"]) for each in found]


def test_an_assignment_is_corrected_and_ended(desk: SidecarAtHand, visitor: Visitor) -> None:
    add_acme(visitor)
    add_globex(visitor)
    number = made_assignment(desk)
    desk.work()
    wanted = {"organization_id": "globex", "first_day": "2026-11-20", "last_day": "2026-11-24"}
    asked = text_of(correct(visitor, number, **wanted).text)
    assert "1 events on 1 days, at a cost of 2 USD, go from Acme to globex." in asked
    assert assignments_of(desk) == [("acme", "1970-01-01T00:00:00Z")]
    correct(visitor, number, **wanted, confirmed="true")
    ended = [("globex", "2026-11-19T23:00:00Z"), (None, "2026-11-24T23:00:00Z")]
    assert assignments_of(desk) == ended
    desk.work()
    shown = visitor.page("/ui/usage", organization_id="globex")
    assert value_at(shown, "total-cost") == "2"
    shorter = wanted | {"last_day": "2026-11-23"}
    moved = "1 events on 1 days, at a cost of 2 USD, go from globex to whom the host names."
    assert moved in text_of(correct(visitor, number, **shorter).text)
    correct(visitor, number, **wanted | {"last_day": ""}, confirmed="true")
    assert assignments_of(desk) == ended[:1]
    assert "Nothing changes." in correct(visitor, number, **wanted | {"last_day": ""}).text


def test_a_correction_keeps_the_instant_of_a_day_that_was_not_changed(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    add_acme(visitor)
    add_globex(visitor)
    number = made_assignment(desk, valid_from="2026-11-20T10:30:00Z")
    wanted = {"organization_id": "globex", "first_day": "2026-11-20", "last_day": ""}
    correct(visitor, number, **wanted, confirmed="true")
    assert assignments_of(desk) == [("globex", "2026-11-20T10:30:00Z")]


def test_an_assignment_stays_between_its_neighbours(desk: SidecarAtHand, visitor: Visitor) -> None:
    add_acme(visitor)
    add_globex(visitor)
    first = made_assignment(desk, valid_from="2026-11-01T00:00:00Z")
    second = made_assignment(desk, organization_id="globex", valid_from="2026-11-10T00:00:00Z")
    before = assignments_of(desk)
    for number, first_day, last_day, words in (
        (first, "2026-11-12", "", "the next assignment begins on 2026-11-10"),
        (first, "2026-11-01", "2026-11-15", "the next assignment begins on 2026-11-10"),
        (second, "2026-10-30", "", "the assignment before this one begins on 2026-11-01"),
        (second, "2026-11-20", "2026-11-19", "the last day lies before the first"),
        (second, "2026-11-20", "some day", "is no day"),
    ):
        wanted = {"organization_id": "acme", "first_day": first_day, "last_day": last_day}
        answer = correct(visitor, number, **wanted, confirmed="true")
        assert (answer.status_code, words in text_of(answer.text)) == (422, True), answer.text
    assert assignments_of(desk) == before
    gone = visitor.client.get("/ui/assignment", params={"assignment_id": "999"})
    assert gone.status_code == 404


def test_a_rate_says_what_it_changes_before_it_does(desk: SidecarAtHand, visitor: Visitor) -> None:
    page = "/ui/organization?organization_id=unassigned"
    wanted = {"organization_id": "unassigned", "markup": "2", "valid_from": "2026-11-01"}
    asked = text_of(visitor.submit(page, "/ui/organization/rate", **wanted))
    assert "2 events up to 2026-11-24 are billed now at 6.5 USD; then at about 10 USD" in asked
    desk.work()
    assert value_at(visitor.page("/ui/usage"), "total-billed") == "6.5"
    visitor.submit(page, "/ui/organization/rate", **wanted, confirmed="true")
    desk.work()
    assert value_at(visitor.page("/ui/usage"), "total-billed") == "10"


def test_a_rate_of_the_future_changes_no_billed_day(visitor: Visitor) -> None:
    page = "/ui/organization?organization_id=unassigned"
    wanted = {"organization_id": "unassigned", "markup": "2", "valid_from": "2027-01-01"}
    assert "No day of it has been billed yet" in visitor.submit(
        page, "/ui/organization/rate", **wanted
    )


def test_another_zone_asks_first_and_another_name_does_not(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    page = "/ui/organization?organization_id=unassigned"
    form = {
        "organization_id": "unassigned",
        "name": "Nobody's",
        "time_zone": "Europe/Warsaw",
        "currency": "USD",
        "is_active": "yes",
    }
    assert "Nobody's" in text_of(visitor.submit(page, "/ui/organization", **form))
    moved = form | {"time_zone": "Asia/Tokyo"}
    assert "2 events, billed now at 6.5 USD" in visitor.submit(page, "/ui/organization", **moved)
    organizations = desk.client.get(f"{ADMIN}/organizations").json()
    assert [each["time_zone"] for each in organizations] == ["Europe/Warsaw"]
    visitor.submit(page, "/ui/organization", **moved, confirmed="true")
    organizations = desk.client.get(f"{ADMIN}/organizations").json()
    assert [each["time_zone"] for each in organizations] == ["Asia/Tokyo"]


def test_another_currency_asks_first(visitor: Visitor) -> None:
    page = "/ui/organization?organization_id=unassigned"
    form = {"organization_id": "unassigned", "currency": "JPY", "is_active": "yes"}
    asked = text_of(visitor.submit(page, "/ui/organization", **form))
    assert "will be in JPY instead of USD: 2 events, billed now at 6.5 USD." in asked
    assert 'value="USD"' in visitor.page(page)
    assert 'value="JPY"' in visitor.submit(page, "/ui/organization", **form, confirmed="true")


def test_another_rate_of_a_day_asks_first(desk: SidecarAtHand, visitor: Visitor) -> None:
    page = "/ui/exchange-rates"
    rate = {"currency": "PLN", "local_date": "2026-11-24", "source": ""}
    visitor.submit(page, page, **rate, rate="4.02")
    asked = text_of(visitor.submit(page, page, **rate, rate="4.2"))
    assert "has a rate already: 4.02 PLN per US dollar. It will be 4.2." in asked
    [known] = desk.client.get(f"{ADMIN}/exchange-rates").json()["rates"]
    assert known["rate"] == "4.02"
    visitor.submit(page, page, **rate, rate="4.2", confirmed="true")
    [known] = desk.client.get(f"{ADMIN}/exchange-rates").json()["rates"]
    assert known["rate"] == "4.2"


def test_rates_are_entered_one_by_one_and_pasted(desk: SidecarAtHand, visitor: Visitor) -> None:
    page = "/ui/exchange-rates"
    visitor.submit(page, page, currency="PLN", local_date="2026-11-24", rate="4.02", source="")
    text = "currency,date,rate,source\nPLN,2026-11-23,4.01,NBP\nPLN,2026-11-22,4,NBP"
    asked = visitor.submit(page, f"{page}/csv", text=text)
    assert "2 rates of PLN for days from 2026-11-22 to 2026-11-23" in text_of(asked)
    visitor.submit(page, f"{page}/csv", text=text, confirmed="true")
    rates = desk.client.get(f"{ADMIN}/exchange-rates").json()["rates"]
    assert [rate["rate"] for rate in rates] == ["4.02", "4.01", "4"]
    wrong = visitor.send(page, csrf=visitor.csrf(page), currency="PLN", rate="4")
    assert (wrong.status_code, "local date" in wrong.text) == (422, True)


def test_a_run_is_asked_for_and_ends(desk: SidecarAtHand, visitor: Visitor) -> None:
    page = "/ui/runs"
    visitor.submit(page, page, start="2026-11-20", end="2026-11-24", allow_shrink="")
    wait_for(lambda: "2026-11-20 to 2026-11-24 done" in text_of(visitor.page(page)))
    [asked] = desk.client.get(f"{ADMIN}/batches").json()["requests"]
    assert (asked["state"], asked["days"]) == ("done", 5)


def test_allowing_fewer_events_asks_first(desk: SidecarAtHand, visitor: Visitor) -> None:
    page = "/ui/runs"
    form = {"start": "2026-11-24", "end": "2026-11-24", "allow_shrink": "cleaned"}
    asked = text_of(visitor.submit(page, page, **form))
    assert "1 days with 2 booked events will be replaced" in asked
    assert desk.client.get(f"{ADMIN}/batches").json()["requests"] == []


def test_a_correction_shows_before_and_after(desk: SidecarAtHand, visitor: Visitor) -> None:
    desk.clock.move(4 * 86_400)
    visitor.sign_in()
    desk.sidecar.project(NOON.date(), NOON.date())
    desk.client.put(f"{ADMIN}/organizations/unassigned/rates", json={"markup": "2"})
    desk.work()
    page = text_of(visitor.page("/ui/corrections"))
    assert "2.60 4.00" in page
    assert "rate of unassigned" in page


def test_what_was_put_aside_is_listed_and_replayed(desk: SidecarAtHand, visitor: Visitor) -> None:
    desk.book([settled(request_id=generation_id(9), cost_usd=20_000, message_id="m-9")])
    page = "/ui/dead-letters"
    assert generation_id(9) in visitor.page(page)
    assert text_of(visitor.page("/")).count("1 dead letters") == 1
    form = {"spool": "function.sqlite3"}
    asked = text_of(visitor.submit(page, f"{page}/replay", **form))
    assert "0 dead letters and 1 quarantined events of function.sqlite3" in asked
    assert generation_id(9) in visitor.page(page)
    visitor.submit(page, f"{page}/replay", **form, confirmed="true")
    desk.work()
    assert "None." in text_of(visitor.page(page))
    total = value_at(visitor.page("/ui/usage"), "total-cost")
    assert Decimal(total) == 20_005
    elsewhere = {"spool": "../../etc/passwd", "csrf": visitor.csrf("/ui/hosts")}
    assert visitor.send(f"{page}/replay", **elsewhere).status_code == 404


def test_hosts_and_spools_are_shown(desk: SidecarAtHand, visitor: Visitor) -> None:
    desk.sidecar.send_heartbeat()
    desk.work()
    page = text_of(visitor.page("/ui/hosts"))
    assert "function.sqlite3" in page
    assert "Legacy mode" in page
    assert "sidecar" in page


def test_a_host_whose_disk_is_elsewhere_is_shown_by_what_it_says_of_itself(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    desk.work()
    host = HostRow(
        host_id="pipeline-far",
        occurred_at=desk.clock.now(),
        host_kind="pipeline",
        version="0.0.9",
        started_at=NOON,
        delivery_state="breaker_open",
        breaker="open",
        queued=17,
        oldest_age_seconds=185,
        write_p50_ms=4.25,
        write_p99_ms=81.5,
        counters={"overrun": 23},
    )
    desk.sidecar.store.write(spooled([host]))
    desk.clock.move(6)  # how the store is was looked at a moment ago
    page = text_of(visitor.page("/ui/hosts"))
    row = page[page.index("pipeline-far pipeline") :][:200]
    for said in ("0.0.9", "breaker_open", "open 17", "3 min", "4.25 / 81.50"):
        assert said in row
    assert "overrun 23" in page[page.index("Counters") :]


def test_a_passive_sidecar_is_read_and_changes_nothing(
    desk: SidecarAtHand, visitor: Visitor
) -> None:
    desk.sidecar._lock.release()
    desk.sidecar._is_active = False
    assert value_at(visitor.page("/ui/usage"), "total-cost") == "5"
    page = "/ui/exchange-rates"
    refused = visitor.send(page, csrf=visitor.csrf(page), currency="PLN")
    assert (refused.status_code, "another sidecar is active" in refused.text) == (503, True)
    assert "Admin token" in visitor.submit("/", "/ui/sign-out")
