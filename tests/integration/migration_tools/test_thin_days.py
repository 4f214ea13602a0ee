"""Requests, tokens and money of people and of models come out exactly, however thin a day is."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.support.legacy import change
from tests.support.migrations import EVER, Lab, influx_environment, lab_in
from tests.support.services.influx import Version, influx_server
from tests.support.thin_days import ThinDay, thin_database, thin_days

STORES = [
    "embedded",
    pytest.param("1.8", marks=pytest.mark.service),
    pytest.param("2.9", marks=pytest.mark.service),
]
DAYS = thin_days(Random(3), 40)
Margins = dict[tuple[str, ...], tuple[int, ...]]


@pytest.fixture(params=STORES)
def lab(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lab]:
    thin_database(tmp_path / "webui.db", DAYS)
    if request.param == "embedded":
        yield lab_in(tmp_path, monkeypatch)
        return
    version: Version = request.param
    server = influx_server(version)
    bucket = server.bucket()
    yield lab_in(tmp_path, monkeypatch, **influx_environment(bucket))
    server.drop(bucket.bucket)


def margins(days: Sequence[ThinDay]) -> Margins:
    return {
        (each.organization, str(each.day), name): (requests, tokens, nano * 1000)
        for each in days
        for name, (requests, tokens, nano) in (*each.users.items(), *each.models.items())
        if requests or tokens or nano
    }


def summed_margins(lab: Lab) -> Margins:
    rows = [
        row
        for side in ("external_user", "model")
        for row in lab.view(
            f"SELECT organization_id, local_date, {side}, sum(events), sum(total_tokens),"  # noqa: S608
            " sum(raw_pico_usd) FROM daily_usage GROUP BY 1, 2, 3"
        )
    ]
    return {row[:3]: row[3:] for row in rows}


def test_both_sides_of_every_day_are_exact_in_store_and_summaries(lab: Lab) -> None:
    output = lab.run("migrate")
    assert output["parts"] == output["events"] - output["totals"]["events"] > 0
    assert summed_margins(lab) == margins(DAYS)
    with lab.ledger() as ledger:
        groups = ledger.target.usage(EVER)
        stored = Counter(event.requests for event in ledger.target.events(EVER))
    requests = sum(sum(row[0] for row in each.users.values()) for each in DAYS)
    assert sum(group.amounts.events for group in groups) == stored[1] == requests
    assert sum(group.parts for group in groups) == stored[0] == output["parts"]
    assert lab.run("verify")["differences"] == []
    lab.run("migrate")
    undone = lab.run("rollback", "--backup-id", output["backup_id"])
    assert undone["events_deleted"] == output["events"]
    assert lab.events() == [] and summed_margins(lab) == {}


def test_the_views_of_old_dashboards_have_the_requests_of_their_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = lab_in(tmp_path, monkeypatch)
    thin_database(tmp_path / "webui.db", DAYS)
    lab.run("migrate")
    for table, name in (
        ("client_daily_usage", "''"),
        ("client_user_daily_usage", "user_id"),
        ("client_model_daily_usage", "model_name"),
    ):
        query = (
            f"SELECT client_org_id, usage_date, {name}, total_requests, total_tokens,"  # noqa: S608
            f" round(raw_cost, 9) FROM {table} WHERE total_requests + total_tokens + raw_cost > 0"
            " ORDER BY 1, 2, 3"
        )
        with closing(sqlite3.connect(tmp_path / "webui.db")) as db:
            assert lab.view(query) == db.execute(query).fetchall()


MORE = (
    "UPDATE events SET part = NULL"
    " WHERE rowid = (SELECT min(rowid) FROM events WHERE part IS NOT NULL)"
)
FEWER = (
    "UPDATE events SET part = 1 WHERE rowid = (SELECT min(rowid) FROM events WHERE part IS NULL)"
)
SUMMED = "UPDATE daily_usage SET events = events + 1 WHERE rowid = 1"


@pytest.mark.parametrize(
    ("file", "query", "where"),
    [
        ("events", MORE, "embedded: import:"),
        ("events", FEWER, "embedded: import:"),
        ("summaries", SUMMED, "summaries"),
    ],
)
def test_a_single_request_too_many_or_too_few_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, query: str, where: str
) -> None:
    lab = lab_in(tmp_path, monkeypatch)
    thin_database(tmp_path / "webui.db", DAYS[:9])
    lab.run("migrate")
    change(tmp_path / f"{file}.sqlite3", query)
    differences = lab.run("verify", code=1)["differences"]
    [found] = [each for each in differences if each["where"].startswith(where)
               and each["what"] == "events"]  # fmt: skip
    assert abs(int(found["expected"]) - int(found["found"])) == 1
