"""The original system's database comes in exactly once, can be verified and taken out again."""

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from migration_tools.cli import app
from tests.support.builders import settled
from tests.support.legacy import (
    FIRST_DAY,
    Request,
    believable_requests,
    change,
    legacy_database,
    truth,
)
from tests.support.migrations import Lab, lab_in

LAST_DAY = FIRST_DAY + timedelta(days=4)
SPAN = ("--start-date", str(FIRST_DAY), "--end-date", str(LAST_DAY))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    legacy_database(tmp_path / "webui.db", believable_requests())
    return lab_in(tmp_path, monkeypatch)


def test_every_organization_and_day_comes_out_to_the_last_digit(lab: Lab) -> None:
    lab.run("migrate", *SPAN)
    assert lab.summed() == truth(believable_requests())
    assert lab.run("verify", *SPAN)["differences"] == []


def test_people_and_models_keep_their_own_totals(lab: Lab) -> None:
    lab.run("migrate", *SPAN)
    for column, side in (("external_user", "user"), ("model", "model")):
        wanted: Counter[tuple[str, str, str]] = Counter()
        for each in believable_requests():
            wanted[each.organization, str(each.day), getattr(each, side)] += each.nano_usd * 1000
        rows = lab.view(
            f"SELECT organization_id, local_date, {column}, sum(raw_pico_usd)"  # noqa: S608
            " FROM daily_usage GROUP BY 1, 2, 3"
        )
        assert {(*key,): amount for *key, amount in rows} == dict(wanted)


def test_old_dashboards_read_the_same_figures_from_the_views(lab: Lab) -> None:
    lab.run("migrate", *SPAN)
    query = (
        "SELECT client_org_id, usage_date, total_tokens, total_requests, round(raw_cost, 9),"
        " round(markup_cost, 9) FROM client_daily_usage ORDER BY 1, 2"
    )
    with closing(sqlite3.connect(lab.folder / "webui.db")) as db:
        assert lab.view(query) == db.execute(query).fetchall()


def test_events_of_a_split_that_nobody_recorded_are_marked(lab: Lab) -> None:
    lab.run("migrate", *SPAN)
    assert {event.usage_extra for event in lab.events()} == {'{"apportioned":true}'}


def test_the_key_of_an_organization_stays_behind_and_its_hash_comes_along(lab: Lab) -> None:
    lab.run("migrate", *SPAN)
    events = lab.events()
    assert {len(event.api_key_hash) for event in events} == {8}
    for path in lab.folder.rglob("*"):
        if path.is_file() and path.name != "webui.db":
            assert b"sk-or-" not in path.read_bytes(), path


def test_a_rehearsal_writes_nothing(lab: Lab) -> None:
    output = lab.run("migrate", *SPAN, "--dry-run")
    assert output["events"] == len(believable_requests())
    assert lab.events() == []
    assert not (lab.folder / "backups").exists()


def test_run_again_it_changes_nothing(lab: Lab) -> None:
    first = lab.run("migrate", *SPAN)
    before = sorted(event.to_json() for event in lab.events())
    again = lab.run("migrate", *SPAN)
    assert again["backup_id"] == first["backup_id"]
    assert sorted(event.to_json() for event in lab.events()) == before
    assert lab.view("SELECT count(*) FROM corrections") == [(0,)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_overlapping_spans_in_any_order_count_once(lab: Lab, order: tuple[int, ...]) -> None:
    spans = [("2025-01-01", "2025-01-03"), ("2025-01-02", "2025-01-05"), SPAN[1::2]]
    for at in order:
        lab.run("migrate", "--start-date", spans[at][0], "--end-date", spans[at][1])
    assert lab.summed() == truth(believable_requests())
    assert lab.run("verify", *SPAN)["differences"] == []


def test_a_rollback_takes_out_exactly_its_import_and_may_be_repeated(lab: Lab) -> None:
    first = lab.run("migrate", "--start-date", "2025-01-01", "--end-date", "2025-01-02")
    second = lab.run("migrate", "--start-date", "2025-01-03", "--end-date", "2025-01-05")
    undone = lab.run("rollback", "--backup-id", first["backup_id"])
    assert undone["events_deleted"] == first["events"]
    days = {day for _, day in lab.summed()}
    assert days == {"2025-01-03", "2025-01-04", "2025-01-05"}
    assert lab.run("rollback", "--backup-id", first["backup_id"])["was_done_before"]
    assert len(lab.events()) == second["events"]
    lab.run("migrate", "--start-date", "2025-01-01", "--end-date", "2025-01-02")
    assert lab.summed() == truth(believable_requests())


def test_rolling_back_an_old_backup_leaves_a_newer_import_of_the_same_days_alone(lab: Lab) -> None:
    old = lab.run("migrate", *SPAN)
    lab.run("rollback", "--backup-id", old["backup_id"])
    new = lab.run("migrate", *SPAN)
    assert new["backup_id"] != old["backup_id"]
    assert lab.run("rollback", "--backup-id", old["backup_id"])["events_deleted"] == 0
    assert lab.summed() == truth(believable_requests())


def test_live_events_stay_when_an_import_is_taken_out(lab: Lab) -> None:
    imported = lab.run("migrate", *SPAN)
    live = settled(occurred_at=datetime(2025, 1, 3, 15, tzinfo=UTC), client_org_id="acme",
                   request_id="gen-live")  # fmt: skip
    lab.put([live])
    lab.run("rollback", "--backup-id", imported["backup_id"])
    assert lab.events() == [live]
    [row] = lab.summaries(FIRST_DAY, LAST_DAY)
    assert row[0] == "acme"
    assert row[-1] == 20_250_000


def test_an_import_of_whole_days_stops_before_the_first_live_event(lab: Lab) -> None:
    lab.put([settled(occurred_at=datetime(2025, 1, 3, 22, 59, tzinfo=UTC), request_id="gen-live")])
    output = lab.run("migrate", *SPAN)
    assert {day["local_date"] for day in output["days"]} == {"2025-01-01", "2025-01-02"}
    live = [remark for remark in output["remarks"] if remark["what"] == "live"]
    assert {remark["local_date"] for remark in live} == {"2025-01-03", "2025-01-04", "2025-01-05"}
    assert "live events begin on 2025-01-03 22:59 UTC" in live[0]["detail"]
    assert lab.run("verify", *SPAN)["differences"] == []


def test_a_day_that_has_not_ended_stays_out(lab: Lab) -> None:
    today = datetime.now(UTC).date()
    (lab.folder / "webui.db").unlink()
    legacy_database(lab.folder / "webui.db", [Request(day=today)])
    assert lab.run("migrate")["events"] == 0


def test_a_source_that_grew_brings_what_is_new(lab: Lab) -> None:
    path = lab.folder / "webui.db"
    path.unlink()
    few = [each for each in believable_requests() if each.day < date(2025, 1, 4)]
    legacy_database(path, few)
    lab.run("migrate")
    path.unlink()
    legacy_database(path, believable_requests())
    lab.run("migrate")
    assert lab.summed() == truth(believable_requests())


def test_organizations_rates_and_people_come_along(lab: Lab) -> None:
    change(lab.folder / "webui.db", "UPDATE client_organizations SET timezone = 'Asia/Tokyo'"
           " WHERE id = 'globex'")  # fmt: skip
    change(
        lab.folder / "webui.db",
        "UPDATE client_daily_usage SET markup_cost = raw_cost * 1.5"
        " WHERE usage_date >= '2025-01-04' AND client_org_id = 'acme'",
    )
    lab.run("migrate", *SPAN)
    with lab.ledger() as ledger:
        directory = ledger.summaries.organizations.directory()
    assert directory.organizations["globex"].time_zone == "Asia/Tokyo"
    assert directory.rate_ppm("acme", date(2025, 1, 3)) == 1_300_000
    assert directory.rate_ppm("acme", date(2025, 1, 4)) == 1_500_000
    assert directory.rate_ppm("acme", date(2025, 1, 6)) == 1_300_000
    after = datetime(2025, 1, 6, tzinfo=UTC)
    assert directory.organization_of("alice-id", "unassigned", after) == "acme"
    assert lab.summed() == truth(believable_requests())


def test_an_assignment_that_an_admin_made_is_left_alone(lab: Lab) -> None:
    with lab.ledger() as ledger:
        ledger.summaries.users.assign("alice-id", None, datetime(2026, 1, 1, tzinfo=UTC))
    imported = lab.run("migrate", *SPAN)
    lab.run("rollback", "--backup-id", imported["backup_id"])
    with lab.ledger() as ledger:
        moves = ledger.summaries.organizations.directory().assignments
    assert [move.external_user for move in moves] == ["alice-id"]


def test_amounts_no_float_can_hold_are_kept_as_the_file_has_them(lab: Lab) -> None:
    path = lab.folder / "webui.db"
    path.unlink()
    made = [Request(user=f"user-{at}", model=f"m/{at % 3}", nano_usd=1 + 3 * at) for at in range(7)]
    legacy_database(path, made)
    lab.run("migrate")
    total = sum(Fraction(str(event.cost_usd)) for event in lab.events())
    assert total == Fraction(sum(each.nano_usd for each in made), 10**9)


def test_of_very_many_differences_the_first_are_held_and_all_are_counted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run("migrate", *SPAN)
    change(lab.folder / "events.sqlite3", "DELETE FROM events")
    every = lab.run("verify", *SPAN, code=1)
    assert every["differences_unlisted"] == 0
    monkeypatch.setattr("migration_tools.importing.verification._DIFFERENCES_MAX", 7)
    first = lab.run("verify", *SPAN, code=1)
    assert first["differences"] == every["differences"][:7]
    assert first["differences_unlisted"] == len(every["differences"]) - 7
    assert first["error"] == every["error"] == f"{len(every['differences'])} differences"
    output = CliRunner().invoke(app, ["verify", *SPAN]).stdout
    assert f"and {len(every['differences']) - 7} more; --json has 7 of all" in output
