"""Traffic: answers that end at a steady rate, what each was billed, and which hook returned."""

import http.client
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from pipelines.src.spool_session import WAIT_SECONDS
from tests.faults.host import PLUGIN
from tests.support.builders import ALICE, BOB, CHARLIE

_PATIENCE_SECONDS = 10.0
_SENDERS = 8
NEVER_REPEATED = 10**9


@dataclass
class Bill:
    """What was sent to the hooks, by request id; `promised` are those whose hook returned."""

    sent: dict[str, Decimal] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)

    def add(self, other: "Bill") -> None:
        """Add another bill to this one."""
        self.sent |= other.sent
        self.promised |= other.promised


class Traffic:
    """Posts one outlet call per answer while it runs, some of them twice: one in `repeated`."""

    def __init__(self, url: str, per_second: float, random: Random, repeated: int) -> None:
        self.bill = Bill()
        self._address = urlsplit(url).netloc
        self._per_second = per_second
        self._random = random
        self._repeated = repeated
        self._lock = Lock()
        self._stop = Event()
        self._sent = 0
        self._threads = [Thread(target=self._send, args=(place,)) for place in range(_SENDERS)]
        self._began = 0.0

    def start(self) -> None:
        """Begin to send."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, after the calls that are under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, place: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=_PATIENCE_SECONDS)
        turn = place
        while not self._stop.wait(self._began + turn / self._per_second - time.monotonic()):
            turn += _SENDERS
            with self._lock:
                answer = an_answer(self._random)
                self._sent += 1
                times = 2 if self._sent % self._repeated == 0 else 1
                self.bill.sent[answer.request_id] = answer.cost
            for _ in range(times):
                if call_outlet(connection, answer):
                    self.bill.promised.add(answer.request_id)
        connection.close()


@dataclass(frozen=True)
class SentAnswer:
    """An answer, its outlet body, and what it was billed."""

    request_id: str
    cost: Decimal
    content: bytes


def an_answer(random: Random, at: float | None = None) -> SentAnswer:
    """Make up an answer with a cost of many digits, as OpenRouter's are."""
    chat, message = str(uuid.UUID(int=random.getrandbits(128))), f"message-{random.random()}"
    cost = random.choice([random.random() / 100, random.random() / 10**6, 0.0])
    prompt, completion = random.randint(1, 5000), random.randint(1, 900)
    usage = {
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
        "cost": cost,
        "is_byok": False,
    }
    ended: dict[str, Any] = {"id": message, "role": "assistant", "content": "Yes.", "usage": usage}
    ended["timestamp"] = int(time.time() if at is None else at)
    body = {
        "model": "openai/gpt-5-mini",
        "chat_id": chat,
        "id": message,
        "messages": [{"id": "question", "role": "user", "content": "Is it?"}, ended],
    }
    user = {"id": random.choice([ALICE, BOB, CHARLIE]), "role": "user"}
    exact = Decimal(repr(cost)).quantize(Decimal("1e-12"), ROUND_HALF_EVEN)
    content = json.dumps({"body": body, "user": user}).encode()
    return SentAnswer(f"turn:{chat}:{message}", exact, content)


def call_outlet(connection: http.client.HTTPConnection, answer: SentAnswer) -> bool:
    """Post the outlet call of an answer; True when the hook returned within its wait.

    One that took as long may not have seen the commit: it promises nothing.
    """
    began = time.monotonic()
    path = f"/{PLUGIN.stem}/filter/outlet"
    try:
        connection.request("POST", path, answer.content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return False
    return response.status == 200 and time.monotonic() - began < WAIT_SECONDS["pipeline"]


def send_answers(url: str, answers: list[SentAnswer]) -> Bill:
    """Post the outlet calls of some answers, one after the other."""
    bill = Bill({answer.request_id: answer.cost for answer in answers})
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE_SECONDS)
    bill.promised = {each.request_id for each in answers if call_outlet(connection, each)}
    connection.close()
    return bill


@contextmanager
def pouring(url: str, per_second: float, random: Random, repeated: int = 10) -> Iterator[Traffic]:
    """Let traffic pour in while the block runs."""
    traffic = Traffic(url, per_second, random, repeated)
    traffic.start()
    try:
        yield traffic
    finally:
        traffic.stop()


def pass_a_moment(random: Random, least: float, most: float) -> None:
    """Let a random time go by: faults come when they come, not when something is ready."""
    Event().wait(random.uniform(least, most))
