"""The mock OpenRouter's ledger: every generation with its exact price, in Decimal dollars."""

import random
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

_BYOK_FEE = Decimal("0.05")
_LOGGING_DISCOUNT = Decimal("0.99")
_WEB_SEARCH_USD = Decimal("0.01")
_ID_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, kw_only=True)
class Price:
    """Prices of a model in US dollars per token."""

    prompt: Decimal
    completion: Decimal
    cached: Decimal
    cache_write: Decimal = Decimal(0)


def _price(prompt: str, completion: str, cached: str, cache_write: str = "0") -> Price:
    return Price(
        prompt=Decimal(prompt),
        completion=Decimal(completion),
        cached=Decimal(cached),
        cache_write=Decimal(cache_write),
    )


PRICES: Mapping[str, Price] = {
    "openai/gpt-5-mini": _price("0.00000025", "0.000002", "0.000000025"),
    "openai/gpt-5-nano": _price("0.00000002", "0.00000008", "0.000000005"),
    "anthropic/claude-haiku-4.5": _price("0.000001", "0.000005", "0.0000001", "0.00000125"),
    "google/gemini-3-flash": _price("0.0000003", "0.0000025", "0.00000003"),
    "meta-llama/llama-4-scout:free": _price("0", "0", "0"),
}
# What the router picks; its own record has no price, which is not known beforehand.
ROUTER, ROUTER_CHOICE = "openrouter/auto", "openai/gpt-5-mini"
# OpenRouter answers with the dated name of a model as often as with the one that was asked for.
DATED_NAMES = {"anthropic/claude-haiku-4.5": "anthropic/claude-4.5-haiku-20251001"}


@dataclass(kw_only=True)
class Generation:
    """One generation and its price."""

    generation_id: str
    connection: str
    created: float
    requested_model: str
    model: str
    price: Price
    stream: bool
    prompt_tokens: int
    user: str | None = None
    session_id: str | None = None
    trace: object = None
    sent_by: Mapping[str, str] = field(default_factory=dict)
    body_keys: list[str] = field(default_factory=list)
    words: Mapping[str, str] = field(default_factory=dict)
    is_later_step: bool = False
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    status: str = "open"
    finish_reason: str | None = None

    @property
    def is_byok(self) -> bool:
        """Whether the provider bills the owner of the key, and OpenRouter only a fee."""
        return "byok" in self.words

    @property
    def list_price(self) -> Decimal:
        """The price of the tokens alone."""
        plain = self.prompt_tokens - self.cached_tokens - self.cache_write_tokens
        return (
            plain * self.price.prompt
            + self.cached_tokens * self.price.cached
            + self.cache_write_tokens * self.price.cache_write
            + self.completion_tokens * self.price.completion
        )

    @property
    def cost(self) -> Decimal:
        """The exact amount that OpenRouter charges."""
        if self.status == "refused" or self.connection != "openrouter":
            return Decimal(0)
        cost = self.list_price * (_BYOK_FEE if self.is_byok else 1)
        if "discount" in self.words:
            cost *= _LOGGING_DISCOUNT
        return cost + (_WEB_SEARCH_USD if "fees" in self.words else 0)

    def usage(self) -> dict[str, Any]:
        """Return the usage object as OpenRouter sends it, with the oddities of the prompt."""
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        if self.connection != "openrouter":
            return usage
        usage |= {
            "cost": float(self.cost),
            "is_byok": self.is_byok,
            "prompt_tokens_details": {
                "cached_tokens": self.cached_tokens,
                "cache_write_tokens": self.cache_write_tokens,
                "audio_tokens": 0,
                "video_tokens": 0,
            },
            "cost_details": {
                "upstream_inference_cost": float(self.list_price),
                "upstream_inference_prompt_cost": float(self.prompt_tokens * self.price.prompt),
                "upstream_inference_completions_cost": float(
                    self.completion_tokens * self.price.completion
                ),
            },
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning_tokens,
                "image_tokens": 0,
            },
        }
        if "fees" in self.words:
            usage["server_tool_use"] = {"web_search_requests": 1}
        return self._with_odd_cost(usage)

    def _with_odd_cost(self, usage: dict[str, Any]) -> dict[str, Any]:
        if "null-cost" in self.words and ("later" not in self.words or self.is_later_step):
            usage["cost"] = None
        if "string-cost" in self.words:
            usage["cost"] = str(self.cost)
        if "int-cost" in self.words:
            usage["cost"] = int(self.cost)
        if "nan-cost" in self.words:
            usage["cost"] = float("nan")
        if "no-cost" in self.words:
            del usage["cost"]
        return usage

    def row(self) -> dict[str, Any]:
        """Return the row of the ledger; amounts are decimal strings."""
        return {
            "id": self.generation_id,
            "connection": self.connection,
            "created": self.created,
            "requested_model": self.requested_model,
            "model": self.model,
            "stream": self.stream,
            "status": self.status,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "cost": format(self.cost, "f"),
            "upstream_cost": format(self.list_price, "f") if self.is_byok else None,
            "is_byok": self.is_byok,
            "user": self.user,
            "session_id": self.session_id,
            "trace": self.trace,
            "sent_by": dict(self.sent_by),
            "body_keys": self.body_keys,
            "words": dict(self.words),
            "is_later_step": self.is_later_step,
        }

    def record(self) -> dict[str, Any]:
        """Return the answer of `GET /generation`."""
        is_cancelled = self.status == "cancelled"
        return {
            "id": self.generation_id,
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.created)),
            "model": self.model,
            "provider_name": "MockProvider",
            "origin": "",
            "data_region": "global",
            "total_cost": float(self.cost),
            "usage": float(self.cost),
            "upstream_inference_cost": float(self.list_price) if self.is_byok else 0,
            "is_byok": self.is_byok,
            "native_tokens_prompt": self.prompt_tokens,
            "native_tokens_completion": self.completion_tokens,
            "native_tokens_cached": self.cached_tokens,
            "native_tokens_reasoning": self.reasoning_tokens,
            "streamed": self.stream,
            "cancelled": is_cancelled,
            "finish_reason": None if is_cancelled else self.finish_reason,
            "external_user": self.user,
            "session_id": self.session_id,
        }


class Ledger:
    """All generations in the order of their requests."""

    def __init__(self) -> None:
        self.generations: list[Generation] = []
        self._asked_for: set[str] = set()

    def new_id(self, connection: str) -> str:
        """Return an id of the connection's kind: `gen-<seconds>-<20>`, or `chatcmpl-<20>`."""
        letters = "".join(random.choices(_ID_LETTERS, k=20))
        if connection == "openrouter":
            return f"gen-{int(time.time())}-{letters}"
        return f"chatcmpl-{letters}"

    def record(self, generation_id: str) -> dict[str, Any] | None:
        """Return a generation's record; the first request is always too early, as at OpenRouter."""
        if generation_id not in self._asked_for:
            self._asked_for.add(generation_id)
            return None
        for generation in self.generations:
            if generation.generation_id == generation_id and generation.status != "open":
                return generation.record()
        return None
