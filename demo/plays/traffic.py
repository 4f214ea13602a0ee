"""A day of traffic as hook bodies in the shape of a real Open WebUI 0.12, and its charges."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Literal

from demo.mock_openrouter.ledger import PRICES
from demo.mock_openrouter.models import FOREIGN_MODEL, foreign_models, openrouter_models
from demo.plays.world import MODEL_WEIGHTS, NAMES, PATH_WEIGHTS, TASK_PATH

Body = dict[str, Any]
Hook = Literal["inlet", "outlet"]
_RECORDS = {record["id"]: record for record in [*openrouter_models(), *foreign_models()]}
_PRESET = "house-style"
_TASKS = {
    "first turn": ("title_generation", "follow_up_generation", "tags_generation"),
    "second turn": ("follow_up_generation",),
    "regenerated": ("follow_up_generation",),
    "temporary chat": ("follow_up_generation",),
}
_BYOK_FEE = Decimal("0.05")
_WORKING_DAY = timedelta(hours=10)


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What OpenRouter charged for one answer or one task.

    `shown` is what the Pipelines hooks reveal of it.
    """

    path: str
    user: str
    message_id: str | None
    generations: int
    cost: Decimal
    upstream: Decimal = Decimal(0)
    shown: Literal["cost", "estimate", "pending", "unmetered", "nothing"] = "cost"


@dataclass(frozen=True)
class Call:
    hook: Hook
    body: Body
    user: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """The hook calls of one answer in order, and what will be charged for it."""

    calls: list[Call]
    charges: list[Charge]


def a_day(random: Random, opening: datetime, answers: int) -> Iterator[Answer]:
    """Return the answers of a working day from `opening` (UTC) on, busiest in the middle."""
    moments = sorted(random.triangular(0, 1) for _ in range(answers))
    for moment in moments:
        at = opening + moment * _WORKING_DAY
        user = random.choice(list(NAMES))
        path = _weighted(random, PATH_WEIGHTS)
        model = FOREIGN_MODEL if path == "other connection" else _weighted(random, MODEL_WEIGHTS)
        yield _Author(random, user, model, path, at).answer()


def _weighted(random: Random, weights: Mapping[str, int]) -> str:
    return random.choices(list(weights), list(weights.values()))[0]


class _Author:
    """Writes the bodies of one answer and the charges for them."""

    def __init__(self, random: Random, user: str, model: str, path: str, at: datetime) -> None:
        self._random = random
        self._user = user
        self._model = model
        self._path = path
        self._at = at
        self._is_api = path.startswith("API")
        self._message_id = self._uuid()
        self._chat_id = {
            "temporary chat": f"temporary:{self._uuid()[:20]}",
            "channel": f"channel:{self._uuid()}",
        }.get(path, "" if self._is_api else self._uuid())

    def answer(self) -> Answer:
        generations = [self._usage() for _ in range(3 if self._path == "tool loop of three" else 1)]
        calls = [self._inlet(), self._outlet(generations)]
        charges = [self._charge(generations)]
        if self._path == "continued":
            more = self._usage()
            calls += [
                self._inlet(continues=True),
                self._outlet([*generations, more], last_only=more),
            ]
            charges += [self._charge([more], shown="estimate")]
        for task in _TASKS.get(self._path, ()):
            calls.append(self._task_inlet(task))
            charges.append(self._task_charge())
        return Answer(calls, charges)

    def _usage(self) -> Body:
        """Return the usage object of one generation; its cost is exact, as a float of JSON."""
        random = self._random
        prompt, completion = random.randint(20, 6000), random.randint(5, 900)
        cached = prompt * 3 // 4 if self._path == "cached prompt" else 0
        usage: Body = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if self._path == "other connection":
            return usage
        price = PRICES[self._model]
        full = (prompt - cached) * price.prompt + cached * price.cached
        full += completion * price.completion
        is_byok = self._path == "own provider key"
        return usage | {
            "cost": float(full * _BYOK_FEE if is_byok else full),
            "is_byok": is_byok,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "cost_details": {"upstream_inference_cost": float(full)},
            "completion_tokens_details": {"reasoning_tokens": completion // 3},
        }

    def _charge(
        self, generations: list[Body], shown: Literal["cost", "estimate"] = "cost"
    ) -> Charge:
        is_foreign = self._path == "other connection"
        costs = [_exact(usage.get("cost", 0)) for usage in generations]
        upstreams = [
            _exact(usage["cost_details"]["upstream_inference_cost"])
            for usage in generations
            if usage.get("is_byok")
        ]
        return Charge(
            path=self._path,
            user=self._user,
            message_id=self._message_id,
            generations=0 if is_foreign else len(generations),
            cost=sum(costs, Decimal(0)),
            upstream=sum(upstreams, Decimal(0)),
            shown="nothing"
            if is_foreign
            else "pending"
            if self._path == "cost withheld"
            else shown,
        )

    def _task_charge(self) -> Charge:
        price = PRICES[self._model]
        tokens = self._random.randint(150, 500)
        return Charge(
            path=TASK_PATH,
            user=self._user,
            message_id=None,
            generations=1,
            cost=tokens * price.prompt + 9 * price.completion,
            shown="unmetered",
        )

    def _inlet(self, *, continues: bool = False) -> Call:
        metadata: Body = {
            "chat_id": self._chat_id,
            "message_id": None if self._is_api else self._message_id,
            "session_id": None if self._is_api else self._uuid()[:20],
            "user_id": self._user,
            "assistant_message_id": self._message_id if continues else None,
            "model": self._record(),
        }
        body = {
            "model": self._shown_model(),
            "stream": self._path != "API, not streamed",
            "messages": [{"role": "user", "content": "(the demo has no prompts)"}],
            "metadata": metadata,
        }
        return Call("inlet", body, self._person())

    def _task_inlet(self, task: str) -> Call:
        metadata = {"task": task, "chat_id": self._chat_id, "model": self._record()}
        body = {"model": self._shown_model(), "stream": False, "messages": [], "metadata": metadata}
        return Call("inlet", body, self._person())

    def _outlet(self, generations: list[Body], last_only: Body | None = None) -> Call:
        if self._is_api:
            self._message_id = "msg_" + self._uuid().replace("-", "")[:24]
        has_time = not self._is_api and self._path not in ("temporary chat", "channel")
        merged = _merge(generations, last_only)
        if self._path == "cost withheld":
            merged["cost"] = None
        message = {
            "id": self._message_id,
            "role": "assistant",
            "content": "(no answers either)",
            "timestamp": int(self._at.timestamp()) if has_time else None,
            "usage": merged,
            "finish_reason": "stop",
        }
        body = {
            "model": self._shown_model(),
            "messages": [message],
            "chat_id": self._chat_id,
            "session_id": None,
            "id": self._message_id,
            "filter_ids": [],
        }
        return Call("outlet", body, self._person())

    def _shown_model(self) -> str:
        return _PRESET if self._path == "workspace preset" else self._model

    def _record(self) -> Body:
        if self._path != "workspace preset":
            return {**_RECORDS[self._model], "connection_type": "external", "urlIdx": 0}
        info = {"id": _PRESET, "base_model_id": self._model}
        return {"id": _PRESET, "name": "House style", "preset": True, "info": info}

    def _person(self) -> Mapping[str, str]:
        name = NAMES[self._user]
        email = f"{name.split()[0].lower()}@example.test"
        return {"id": self._user, "name": name, "email": email, "role": "user"}

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def _exact(sent: float) -> Decimal:
    """Return the exact cost of a float as JSON writes it."""
    return Decimal(repr(sent))


def _merge(generations: list[Body], last_only: Body | None) -> Body:
    """Merge usage objects as Open WebUI does: float sums, and the last one's own counts.

    A continued answer is merged once more than it should be, as version 0.12.4 does it.
    """
    last = generations[-1]
    merged = last | {
        "input_tokens": sum(usage["prompt_tokens"] for usage in generations),
        "output_tokens": sum(usage["completion_tokens"] for usage in generations),
        "total_tokens": sum(usage["total_tokens"] for usage in generations),
    }
    if "cost" in last:
        merged["cost"] = sum(usage["cost"] for usage in generations)
        if last_only is not None:
            merged["cost"] += last_only["cost"]
    return merged
