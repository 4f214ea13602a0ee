"""INFLUXDB_FIRST_MODE: the webhook's events go to a store of their own choice, and count once."""

from pathlib import Path

import pytest

from shared.core.days import ONE_DAY
from shared.event_store.port import Window
from shared.summary_db.reports import UsageFilter
from tests.support.builders import ALICE, NOON, generation_id, settled
from tests.support.services.influx import Version, influx_server
from tests.support.sidecars import ADMIN, SidecarAtHand

pytestmark = pytest.mark.service
TODAY = Window(NOON - ONE_DAY, NOON + ONE_DAY)


@pytest.mark.parametrize("version", ["1.8", "2.9"])
@pytest.mark.parametrize(("flag", "mode"), [(False, True), (True, False)])
def test_what_the_webhook_books_goes_where_its_flag_says_and_counts_once(
    tmp_path: Path, version: Version, flag: bool, mode: bool
) -> None:
    server = influx_server(version)
    place = server.bucket()
    desk = SidecarAtHand(
        tmp_path,
        influxdb_first_enabled=flag,
        influxdb_first_mode=mode,
        influxdb_url=place.url,
        influxdb_token=place.token,
        influxdb_org=place.org,
        influxdb_bucket=place.bucket,
        influxdb_write_timeout=20_000,
    )
    seen_by_both, by_hand = generation_id(1), {"model": "m", "tokens": 1, "cost": "0.25"}
    for number in (1, 2):
        body = {"model": "openai/gpt-5-mini", "tokens_used": 18, "cost": 0.5}
        body |= {"request_id": generation_id(number), "external_user": ALICE}
        desk.poster.post("/webhook/openrouter-usage", json=body).raise_for_status()
    desk.client.post(f"{ADMIN}/manual-record", json=by_hand).raise_for_status()
    desk.book([settled(request_id=seen_by_both)])
    stores = {store.name: list(store.events(TODAY)) for store in desk.sidecar.store.parts}
    sources = {name: sorted(event.source for event in held) for name, held in stores.items()}
    webhook, others = ["webhook", "webhook"], ["function", "manual"]
    assert sources == {
        "influxdb": webhook if mode else others,
        "embedded": others if mode else webhook,
    }
    assert_status(desk, flag, mode)
    day = UsageFilter(start=NOON.date(), end=NOON.date())
    [total] = desk.sidecar.summaries.reports.usage(day, ())
    assert total.amounts.events == 3
    assert total.amounts.raw_pico_usd == 500_000_000_000 + 250_000_000_000 + 20_250_000
    desk.close()
    server.drop(place.bucket)


def assert_status(desk: SidecarAtHand, flag: bool, mode: bool) -> None:
    status = desk.client.get(f"{ADMIN}/service-status").json()
    assert (status["influxdb_first_enabled"], status["influxdb_first_mode"]) == (flag, mode)
    names = {True: "influxdb", False: "embedded"}
    assert (status["event_store"], status["webhook_store"]) == (names[flag], names[mode])
    assert {spool["name"]: spool["queued"] for spool in status["spools"]} == {
        "function.sqlite3": 0,
        "sidecar.sqlite3": 0,
        "webhook.sqlite3": 0,
    }
