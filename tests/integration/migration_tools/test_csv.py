"""OpenRouter's export settles what is pending, adds what nobody saw, and never counts twice."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.support.builders import ALICE, BOB, generation_id, pending, settled, turn
from tests.support.migrations import Lab, lab_in

HEADER = (
    "generation_id,created_at,cost_total,cost_web_search,cost_cache,cost_file_processing,"
    "byok_usage_inference,tokens_prompt,tokens_completion,tokens_reasoning,tokens_cached,"
    "model_permaslug,provider_name,variant,cancelled,streamed,user,finish_reason_raw,"
    "finish_reason_normalized,generation_time_ms,time_to_first_token_ms,api_key_disabled,"
    "api_key_name,app_name"
)
NOON = datetime(2025, 11, 24, 12, tzinfo=UTC)
SECONDS = int(NOON.timestamp())
DAY = NOON.date()


def line(number: int = 1, **fields: str) -> str:
    row = dict.fromkeys(HEADER.split(","), "") | {
        "generation_id": generation_id(number, SECONDS + number),
        "created_at": "2025-11-24 12:00:00",
        "cost_total": "0.00002025",
        "tokens_prompt": "9",
        "tokens_completion": "9",
        "model_permaslug": "openai/gpt-5-mini-2025-08-07",
        "provider_name": "OpenAI",
        "variant": "standard",
        "user": BOB,
    }
    return ",".join((row | fields).values())


def export(folder: Path, *lines: str, name: str = "activity.csv", header: str = HEADER) -> str:
    path = folder / name
    path.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8-sig")
    return str(path)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return lab_in(tmp_path, monkeypatch)


def test_every_column_of_a_line_arrives(lab: Lab) -> None:
    path = export(
        lab.folder,
        line(cost_total="7.4e-7", variant="free", tokens_cached="4", tokens_reasoning="3",
             byok_usage_inference="0.5", cost_web_search="0.01", generation_time_ms="812"),
    )  # fmt: skip
    lab.run("migrate", "--source", "csv", "--from", path)
    [event] = lab.events()
    assert str(event.cost_usd) == "7.40000E-7"
    assert event.occurred_at == datetime.fromtimestamp(SECONDS + 1, UTC)
    assert event.model == "openai/gpt-5-mini-2025-08-07:free"
    assert (event.external_user, event.provider) == (BOB, "OpenAI")
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (9, 9, 18)
    assert (event.cached_tokens, event.reasoning_tokens, event.latency_ms) == (4, 3, 812)
    assert event.is_byok
    assert str(event.upstream_cost_usd) == "0.500000000000"
    assert event.usage_extra == '{"cost_web_search":"0.01"}'
    assert event.cost_source == "analytics"


def test_a_pending_event_is_settled_and_keeps_who_it_was(lab: Lab) -> None:
    request_id = generation_id(1, SECONDS + 1)
    lab.put([pending(request_id=request_id, occurred_at=NOON, client_org_id="acme")])
    path = export(lab.folder, line(1))
    lab.run("migrate", "--source", "csv", "--from", path)
    assert [row for row in lab.summaries(DAY, DAY) if row[-1]] == [
        ("acme", ALICE, "openai/gpt-5-mini-2025-08-07", 18, 20_250_000)
    ]
    assert lab.run("verify", "--source", "csv", "--from", path)["differences"] == []


def test_a_generation_seen_live_keeps_its_price_and_is_counted_once(lab: Lab) -> None:
    lab.put([settled(request_id=generation_id(1, SECONDS + 1), occurred_at=NOON, cost_usd=0.5)])
    lab.run("migrate", "--source", "csv", "--from", export(lab.folder, line(1), line(2)))
    assert sorted(lab.bills().values()) == ["0.000020250000", "0.500000000000"]


def test_two_exports_that_overlap_count_once_in_any_order(lab: Lab) -> None:
    first = export(lab.folder, line(1), line(2), line(2), name="a.csv")
    second = export(lab.folder, line(2), line(3), name="b.csv")
    backups = [
        lab.run("migrate", "--source", "csv", "--from", path)["backup_id"]
        for path in (first, second, first)
    ]
    assert sorted(lab.bills()) == [generation_id(at, SECONDS + at) for at in (1, 2, 3)]
    assert [row[-1] for row in lab.summaries(DAY, DAY)] == [3 * 20_250_000]
    lab.run("rollback", "--backup-id", backups[0])
    assert sorted(lab.bills()) == [generation_id(at, SECONDS + at) for at in (2, 3)]
    assert [row[-1] for row in lab.summaries(DAY, DAY)] == [2 * 20_250_000]


def test_a_rollback_makes_pending_what_the_export_had_settled(lab: Lab) -> None:
    lab.put([pending(request_id=generation_id(1, SECONDS + 1), occurred_at=NOON)])
    output = lab.run("migrate", "--source", "csv", "--from", export(lab.folder, line(1)))
    lab.run("rollback", "--backup-id", output["backup_id"])
    assert lab.bills() == {generation_id(1, SECONDS + 1): "None"}


def test_a_day_with_whole_answers_takes_only_generations_it_knows(lab: Lab) -> None:
    known = generation_id(1, SECONDS + 1)
    lab.put([
        pending(request_id=known, occurred_at=NOON, message_id=None, chat_id=None),
        turn(occurred_at=NOON),
    ])  # fmt: skip
    output = lab.run("migrate", "--source", "csv", "--from", export(lab.folder, line(1), line(2)))
    assert output["events"] == 1
    assert [each["what"] for each in output["remarks"]] == ["answers"]
    assert sorted(lab.bills()) == [known, "turn:chat-1:message-1"]


def test_turns_that_are_only_observed_are_in_nobodys_way(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USAGE_TURNS", "observe")
    lab.put([turn(occurred_at=NOON)])
    path = export(lab.folder, line(1))
    assert lab.run("migrate", "--source", "csv", "--from", path)["events"] == 1


def test_unusable_lines_stay_behind_and_an_unusable_cost_is_pending(lab: Lab) -> None:
    path = export(
        lab.folder,
        line(1, cost_total="much"),
        line(2, generation_id="chatcmpl-1"),
        line(3, tokens_prompt="-4"),
        line(4, generation_id="gen-" + "a" * 28, created_at="soon"),
    )
    output = lab.run("migrate", "--source", "csv", "--from", path, code=1)
    assert [each["what"] for each in output["remarks"]] == ["cost", "row", "row", "row"]
    assert "line 3: generation_id: unusable_id" in output["remarks"][1]["detail"]
    assert lab.bills() == {generation_id(1, SECONDS + 1): "None"}


def test_only_the_days_asked_for_come_in(lab: Lab) -> None:
    path = export(lab.folder, line(1), line(2, generation_id="gen-" + "b" * 28,
                                            created_at="2025-11-23T12:00:00Z"))  # fmt: skip
    lab.run("migrate", "--source", "csv", "--from", path, "--start-date", "2025-11-23",
            "--end-date", "2025-11-23")  # fmt: skip
    assert lab.summaries(date(2025, 11, 1), date(2025, 11, 30))[0][1:3] == (
        BOB,
        "openai/gpt-5-mini-2025-08-07",
    )
    assert len(lab.events()) == 1


def test_a_file_of_another_kind_is_refused(lab: Lab) -> None:
    path = export(lab.folder, "x", header="date,usage")
    output = lab.run("plan", "--source", "csv", "--from", path, code=3)
    assert "no export of generations: it has no column cost_total" in output["error"]
    (lab.folder / "binary.csv").write_bytes(b"\xff\xfe\x00")
    path = str(lab.folder / "binary.csv")
    assert "no CSV in UTF-8" in lab.run("plan", "--source", "csv", "--from", path, code=3)["error"]
    assert "names the CSV" in lab.run("plan", "--source", "csv", code=3)["error"]
