"""Days of the original's database that disagree, are damaged, or hold the markup already."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.legacy import FIRST_DAY, GPT, believable_requests, change, legacy_database, truth
from tests.support.migrations import Lab, lab_in

LAST_DAY = FIRST_DAY + timedelta(days=4)
SPAN = ("--start-date", str(FIRST_DAY), "--end-date", str(LAST_DAY))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    legacy_database(tmp_path / "webui.db", believable_requests())
    return lab_in(tmp_path, monkeypatch)


def test_days_whose_tables_disagree_stay_out_with_the_figures(lab: Lab) -> None:
    change(
        lab.folder / "webui.db",
        "UPDATE client_user_daily_usage SET raw_cost = raw_cost + 0.000001"
        " WHERE usage_date = '2025-01-02' AND user_id = 'alice-id'",
    )
    output = lab.run("migrate", *SPAN, code=1)
    [refused] = [remark for remark in output["remarks"] if remark["left_out"]]
    assert (refused["organization_id"], refused["local_date"]) == ("acme", "2025-01-02")
    assert "USD, its users say" in refused["detail"]
    wanted = truth(believable_requests())
    assert lab.summed() == {key: wanted[key] for key in wanted if key != ("acme", "2025-01-02")}
    lab.run("rollback", "--backup-id", output["backup_id"])
    lab.run("migrate", *SPAN, "--accept-differences")
    assert lab.summed() == wanted
    lab.run("verify", *SPAN, "--accept-differences")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE client_daily_usage SET raw_cost = 'much' WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET raw_cost = -1 WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET raw_cost = NULL WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET raw_cost = 9e999 WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET total_tokens = 1.5 WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET total_requests = 1000000000 WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET usage_date = 'soon' WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET usage_date = '0001-01-01' WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET usage_date = '9999-12-31' WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET usage_date = '20250102' WHERE id = 'acme:2025-01-02'",
        "UPDATE client_daily_usage SET usage_date = '2025-02-30' WHERE id = 'acme:2025-01-02'",
        "UPDATE client_user_daily_usage SET client_org_id = 'ACME' WHERE client_org_id = 'acme'",
        "UPDATE processed_generations SET client_org_id = 'ACME' WHERE client_org_id = 'acme'",
        "UPDATE processed_generations SET id = NULL WHERE client_org_id = 'acme'",
        "DELETE FROM client_user_daily_usage WHERE id = 'acme:2025-01-02:bob-id'",
        "INSERT INTO client_daily_usage SELECT 'twice', client_org_id, usage_date, total_tokens,"
        " total_requests, raw_cost, markup_cost, '', 0, 0, 0 FROM client_daily_usage"
        " WHERE id = 'acme:2025-01-02'",
    ],
)
def test_a_damaged_day_is_said_and_never_guessed(lab: Lab, damage: str) -> None:
    change(lab.folder / "webui.db", damage)
    output = lab.run("migrate", code=1)
    assert any(remark["left_out"] for remark in output["remarks"])
    whole = truth(believable_requests())
    assert all(sums == whole[place] for place, sums in lab.summed().items())
    assert lab.run("verify", code=1)["differences"] == []


NO_ORGANIZATION = "UPDATE {} SET client_org_id = NULL WHERE client_org_id = 'acme'"
TABLES = (
    "client_daily_usage",
    "client_user_daily_usage",
    "client_model_daily_usage",
    "processed_generations",
)


def test_days_without_an_organization_are_one_organization_of_their_own(lab: Lab) -> None:
    for table in TABLES:
        change(lab.folder / "webui.db", NO_ORGANIZATION.format(table))
    change(
        lab.folder / "webui.db",
        "UPDATE client_model_daily_usage SET client_org_id = ' unassigned '"
        " WHERE client_org_id IS NULL",
    )
    lab.run("migrate", *SPAN)
    assert lab.summed() == {
        (organization.replace("acme", "unassigned"), day): sums
        for (organization, day), sums in truth(believable_requests()).items()
    }


def test_numbers_written_as_text_are_numbers(lab: Lab) -> None:
    path = lab.folder / "webui.db"
    for table in TABLES[:3]:
        change(path, f"ALTER TABLE {table} RENAME TO old")
        change(path, f"CREATE TABLE {table} AS SELECT * FROM old")  # noqa: S608
        change(
            path,
            f"UPDATE {table} SET total_tokens = CAST(total_tokens AS TEXT),"  # noqa: S608
            " total_requests = CAST(total_requests AS TEXT), raw_cost = CAST(raw_cost AS TEXT)",
        )
        change(path, "DROP TABLE old")
    lab.run("migrate", *SPAN)
    assert lab.summed() == truth(believable_requests())


def test_two_people_stay_two_however_long_their_ids_are(lab: Lab) -> None:
    for user, last in (("alice-id", "a"), ("bob-id", "b")):
        change(
            lab.folder / "webui.db",
            "UPDATE client_user_daily_usage SET user_id = ? WHERE user_id = ?",
            "x" * 5000 + last,
            user,
        )
    lab.run("migrate", *SPAN)
    people = {event.external_user for event in lab.events() if event.client_org_id == "acme"}
    assert len(people) == 2


def test_a_database_whose_organization_was_renamed_since_is_not_imported_twice(lab: Lab) -> None:
    path = lab.folder / "webui.db"
    lab.run("migrate", *SPAN)
    before = lab.summed()
    change(path, "UPDATE client_organizations SET id = 'acme-2' WHERE id = 'acme'")
    assert lab.run("migrate", *SPAN, code=1)["events"] == 0
    for table in TABLES:
        change(path, f"UPDATE {table} SET client_org_id = 'acme-2' WHERE client_org_id = 'acme'")  # noqa: S608
    assert "was renamed looks like two" in lab.run("migrate", *SPAN, code=3)["error"]
    assert lab.summed() == before


def test_a_damaged_file_is_refused_in_one_sentence(lab: Lab) -> None:
    path = lab.folder / "webui.db"
    content = bytearray(path.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    path.write_bytes(content)
    assert "webui.db" in lab.run("migrate", *SPAN, code=3)["error"]
    path.write_bytes(b"no database")
    assert "webui.db" in lab.run("migrate", *SPAN, code=3)["error"]
    path.unlink()
    assert "no such file" in lab.run("plan", *SPAN, code=3)["error"]
    assert not (lab.folder / "backups").exists()


def test_a_source_that_changed_since_its_import_is_refused(lab: Lab) -> None:
    imported = lab.run("migrate", *SPAN)
    for table in ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage"):
        change(
            lab.folder / "webui.db",
            f"UPDATE {table} SET total_tokens = total_tokens + 1 WHERE id IN ('acme:2025-01-02',"  # noqa: S608
            f" 'acme:2025-01-02:alice-id', 'acme:2025-01-02:{GPT}')",
        )
    output = lab.run("migrate", *SPAN, code=3)
    assert f"not what {imported['backup_id']} imported, first acme on 2025-01-02" in output["error"]
    assert lab.run("verify", *SPAN, code=1)["differences"]


def test_a_raw_cost_with_the_markup_in_it_is_found_and_taken_out(lab: Lab) -> None:
    path = lab.folder / "webui.db"
    path.unlink()
    legacy_database(path, believable_requests(), marked_up=True)
    output = lab.run("plan", *SPAN, code=1)
    assert output["events"] == 0
    assert all("1.300000 times" in each["detail"] for each in output["remarks"] if each["left_out"])
    lab.run("migrate", *SPAN, "--raw-cost-includes-markup")
    assert lab.summed() == truth(believable_requests())


def test_days_at_a_rate_of_one_come_in_beside_those_with_a_markup(lab: Lab) -> None:
    path = lab.folder / "webui.db"
    path.unlink()
    legacy_database(path, believable_requests(), rate=1.0, marked_up=True)
    lab.run("migrate", *SPAN, "--raw-cost-includes-markup")
    assert lab.summed() == truth(believable_requests())


def test_a_day_that_only_its_generations_know_keeps_their_ids(lab: Lab) -> None:
    for table in ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage"):
        change(lab.folder / "webui.db", f"DELETE FROM {table} WHERE usage_date = '2025-01-02'")  # noqa: S608
    lab.run("migrate", *SPAN)
    assert lab.summed() == truth(believable_requests())
    ids = {event.request_id for event in lab.events() if event.occurred_at.day == 2}
    assert all(request_id.startswith("gen-") for request_id in ids)
