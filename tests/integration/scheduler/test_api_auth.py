"""The door: closed when no token is set, the right one only, five failures a minute, no secret."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scheduler.api.auth import OPEN_PATHS, scope_of
from tests.support.sidecars import ADMIN, TOKEN, WEBHOOK_TOKEN, SidecarAtHand

STATUS = f"{ADMIN}/service-status"
HOOK = "/webhook/openrouter-usage"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SidecarAtHand]:
    found = SidecarAtHand(tmp_path)
    yield found
    found.close()


def ask(
    desk: SidecarAtHand, path: str = STATUS, header: str = "", method: str = "GET"
) -> httpx.Response:
    headers = {"Authorization": header} if header else {}
    return desk.stranger.request(method, path, headers=headers)


def routes(desk: SidecarAtHand) -> list[tuple[str, str]]:
    document = desk.stranger.get("/openapi.json").json()
    return [
        (method.upper(), path.replace("{assignment_id}", "1").replace("{", "").replace("}", ""))
        for path, operations in document["paths"].items()
        for method in operations
    ]


def test_every_route_but_the_open_ones_wants_a_token(desk: SidecarAtHand) -> None:
    found = routes(desk)
    assert len(found) > 30
    for method, path in found:
        answer = ask(desk, path, method=method)
        assert (answer.status_code == 401) == (path not in OPEN_PATHS), f"{method} {path}"


def test_an_unknown_path_wants_the_admin_token(desk: SidecarAtHand) -> None:
    assert ask(desk, "/anything").status_code == 401
    assert ask(desk, "/healthy").status_code == 401
    assert ask(desk, "/anything", f"Bearer {TOKEN}").status_code == 404


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        ("", 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {WEBHOOK_TOKEN}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_only_the_right_token_opens(desk: SidecarAtHand, header: str, status: int) -> None:
    answer = ask(desk, header=header)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "USAGE_ADMIN_TOKEN" in answer.json()["error"]["message"]
        assert TOKEN not in answer.text


def test_the_admin_token_does_not_open_the_webhook(desk: SidecarAtHand) -> None:
    assert ask(desk, HOOK, f"Bearer {TOKEN}", "POST").status_code == 401
    assert ask(desk, HOOK, f"Bearer {WEBHOOK_TOKEN}", "POST").status_code == 200


def test_without_tokens_everything_is_closed_and_says_which_setting_opens_it(
    tmp_path: Path,
) -> None:
    desk = SidecarAtHand(tmp_path, usage_admin_token=None, usage_webhook_token=None)
    for path, method, setting in (
        (STATUS, "GET", "USAGE_ADMIN_TOKEN"),
        (HOOK, "POST", "USAGE_WEBHOOK_TOKEN"),
    ):
        for header in ("", "Bearer", "Bearer None"):
            answer = ask(desk, path, header, method)
            assert answer.status_code == 403
            assert setting in answer.json()["error"]["message"]
    assert ask(desk, "/health").status_code == 200
    desk.close()


def test_the_sixth_wrong_token_of_a_minute_is_not_heard_any_more(desk: SidecarAtHand) -> None:
    codes = [ask(desk, header=f"Bearer wrong-{number}").status_code for number in range(7)]
    assert codes == [401] * 5 + [429] * 2
    locked = ask(desk, header=f"Bearer {TOKEN}")
    assert locked.status_code == 429
    assert int(locked.headers["retry-after"]) > 0
    desk.clock.move(61)
    assert ask(desk, header=f"Bearer {TOKEN}").status_code == 200


def test_who_was_right_lately_cannot_be_locked_out_by_somebody_behind_the_same_proxy(
    desk: SidecarAtHand,
) -> None:
    assert ask(desk, header=f"Bearer {TOKEN}").status_code == 200
    codes = [ask(desk, header="Bearer wrong").status_code for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2
    assert ask(desk, header=f"Bearer {TOKEN}").status_code == 200


def test_asking_without_a_token_is_no_guess(desk: SidecarAtHand) -> None:
    assert {ask(desk).status_code for _ in range(10)} == {401}


def test_an_error_has_one_shape_wherever_it_comes_from(desk: SidecarAtHand) -> None:
    answers = [
        ask(desk),
        desk.client.get("/nowhere"),
        desk.client.post(STATUS),
        desk.client.post(f"{ADMIN}/manual-record", content=b"{"),
        desk.client.post(f"{ADMIN}/manual-record", content=b"\xff"),
        desk.client.get(f"{ADMIN}/organizations/nobody"),
        desk.client.post(f"{ADMIN}/manual-record", content=b"x" * (9 * 1024**2)),
        desk.client.post(f"{ADMIN}/manual-record", content=(b"x" * 1024**2 for _ in range(9))),
    ]
    assert [answer.status_code for answer in answers] == [401, 404, 405, 422, 422, 404, 413, 413]
    for answer in answers:
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"code", "message", "field"}


def test_a_wrong_method_names_all_that_are_right(desk: SidecarAtHand) -> None:
    answer = desk.client.put(f"{ADMIN}/organizations")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


def test_what_fails_inside_names_a_reference_and_nothing_else(
    desk: SidecarAtHand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> list[object]:
        raise RuntimeError("token s3cret in a traceback")

    monkeypatch.setattr(desk.sidecar, "spool_states", broken)
    answer = desk.client.get(STATUS)
    assert answer.status_code == 500
    reference = answer.json()["error"]["message"].split()[-1]
    assert reference in caplog.text
    assert "s3cret" not in answer.text


def test_a_passive_sidecar_shows_and_takes_nothing(tmp_path: Path) -> None:
    active, passive = SidecarAtHand(tmp_path), SidecarAtHand(tmp_path)
    assert passive.client.get(STATUS).json()["role"] == "passive"
    for method, path, client in (
        ("POST", f"{ADMIN}/manual-record", passive.client),
        ("DELETE", f"{ADMIN}/users/alice", passive.client),
        ("POST", HOOK, passive.poster),
    ):
        answer = client.request(method, path, json={})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "passive"
    active.close()
    passive.sidecar.try_lead()
    assert passive.client.get(STATUS).json()["role"] == "active"
    passive.close()


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/health", "open"),
        ("/webhook/openrouter-usage", "webhook"),
        ("/webhookx", "admin"),
        ("/api/v1/user/months", "user"),
        ("/api/v1/user", "admin"),
        ("/api/v1/users/months", "admin"),
        ("/admin/batch-status", "admin"),
        ("//health", "admin"),
        ("/health/", "admin"),
        ("/", "open"),
        ("/ui/usage", "open"),
        ("/ui", "admin"),
        ("//ui/usage", "admin"),
    ],
)
def test_a_path_belongs_to_one_room(path: str, scope: str) -> None:
    assert scope_of(path) == scope
