"""The model lists of the mock servers, in the shapes of the real ones."""

from typing import Any

from demo.mock_openrouter.ledger import PRICES, ROUTER

FOREIGN_MODEL = "local-llama"
# What a proxy in front of OpenRouter calls a model of it, and which one that is.
PROXIED_MODEL, BEHIND_PROXY = "house-mini", "openai/gpt-5-mini"
_CREATED = 1756000000


def openrouter_models() -> list[dict[str, Any]]:
    """Return OpenRouter's records: prices are strings in US dollars per token."""
    records = [
        _record(
            name,
            {
                "prompt": format(price.prompt, "f"),
                "completion": format(price.completion, "f"),
                "input_cache_read": format(price.cached, "f"),
                "input_cache_write": format(price.cache_write, "f"),
            },
        )
        for name, price in PRICES.items()
    ]
    return [*records, _record(ROUTER, {"prompt": "-1", "completion": "-1"})]


def foreign_models() -> list[dict[str, Any]]:
    """Return the records of an OpenAI-compatible server that is not OpenRouter."""
    return [_plain(FOREIGN_MODEL, "local")]


def proxied_models() -> list[dict[str, Any]]:
    """Return the records of a proxy in front of OpenRouter, which do not show who bills."""
    return [_plain(PROXIED_MODEL, "proxy")]


def _plain(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": owner}


def _record(name: str, pricing: dict[str, str]) -> dict[str, Any]:
    return {
        "id": name,
        "canonical_slug": name,
        "hugging_face_id": "",
        "name": name.partition("/")[2].replace("-", " ").title(),
        "created": _CREATED,
        "description": "A model of the mock.",
        "context_length": 200000,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": pricing,
        "top_provider": {
            "context_length": 200000,
            "max_completion_tokens": 64000,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "reasoning", "temperature", "tool_choice", "tools"],
    }
