"""kill -9 of the real Pipelines server while answers pour in: no event lost, none twice."""

import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.src.spool_session import WAIT_SECONDS
from shared.core.event import UsageEvent
from shared.core.rows import row_from_json
from shared.spool.sqlite_spool import SqliteSpool
from tests.host.servers import PLUGIN_ID, PipelinesServer, pipelines_server, wait_for
from tests.support.builders import ALICE, BOB, CHARLIE

pytestmark = pytest.mark.host

USERS = (ALICE, BOB, CHARLIE)
# A few by default, more in the long form.
KILLS = int(os.environ.get("FAULT_ROUNDS", "4"))


class Chatters:
    """Users whose answers end at the same time; they note which outlets were answered."""

    def __init__(self, server: PipelinesServer, round_number: int) -> None:
        self.answered: list[str] = []
        self._url = str(server.client.base_url)
        self._round = round_number
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._chat, args=(user,), name=f"chat of {user}")
            for user in USERS
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _chat(self, user: str) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as client:
            while not self._stop.is_set():
                number += 1
                message_id = f"{user}-{self._round}-{number}"
                try:
                    answer = client.post(
                        f"{PLUGIN_ID}/filter/outlet", json=outlet(message_id, user)
                    )
                except httpx.TransportError:
                    return
                # While it reloads, the server does not know the plugin for a moment. A hook that
                # overran its wait promises nothing.
                if (
                    answer.status_code == 200
                    and answer.elapsed.total_seconds() < WAIT_SECONDS["pipeline"]
                ):
                    self.answered.append(f"turn:chat-1:{message_id}")


def outlet(message_id: str, user: str) -> dict[str, Any]:
    usage = {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18, "cost": 2.025e-05}
    message = {"id": message_id, "role": "assistant", "usage": usage}
    body = {
        "id": message_id,
        "chat_id": "chat-1",
        "model": "openai/gpt-5-mini",
        "messages": [message],
    }
    return {"body": body, "user": {"id": user}}


def booked(server: PipelinesServer) -> Counter[str]:
    spool = SqliteSpool(server.spool_path)
    try:
        rows = [row_from_json(row.kind, row.json) for row in spool.take(1_000_000)]
    finally:
        spool.close()
    return Counter(row.request_id for row in rows if isinstance(row, UsageEvent))


def test_every_answered_outlet_is_booked_exactly_once_whenever_the_server_is_killed(
    tmp_path: Path,
) -> None:
    moments = random.Random(20261124)
    answered: list[str] = []
    with pipelines_server("pipelines-current", tmp_path) as server:
        server.upload()
        for round_number in range(KILLS):
            chatters = Chatters(server, round_number)
            enough = moments.randint(5, 60)
            wait_for(lambda chatters=chatters, enough=enough: len(chatters.answered) >= enough)
            server.kill()
            chatters.end()
            answered += chatters.answered
            server.start()
        counts = booked(server)
    assert set(counts.values()) == {1}
    assert set(answered) - set(counts) == set()


def test_an_upload_while_answers_pour_in_loses_none_and_a_kill_in_its_middle_neither(
    tmp_path: Path,
) -> None:
    with pipelines_server("pipelines-current", tmp_path) as server:
        server.upload()
        chatters = Chatters(server, 0)
        for enough in (10, 30):
            wait_for(lambda enough=enough: len(chatters.answered) >= enough)
            server.upload()
        uploading = threading.Thread(target=upload_until_killed, args=(server,))
        uploading.start()
        wait_for(lambda: len(chatters.answered) >= 60)
        server.kill()
        uploading.join(60)
        chatters.end()
        server.start()
        counts = booked(server)
        assert [found["id"] for found in server.listed()] == [PLUGIN_ID]
    assert set(counts.values()) == {1}
    assert set(chatters.answered) - set(counts) == set()


def upload_until_killed(server: PipelinesServer) -> None:
    with pytest.raises(httpx.TransportError):
        while True:
            server.upload()
