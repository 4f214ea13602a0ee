"""What this Open WebUI knows of its models and connections: records, and hashes of API keys."""

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from shared.capture.openwebui import ModelRecord, json_object, read_model_record, short_text
from shared.core.ids import NO_KEY, key_hash

# A new key is noticed after this long.
_FRESH_SECONDS = 10.0
# Part of the 250 ms of a hook; the host itself reads its connections for every answer.
_WAIT_SECONDS = 0.05
_SETTINGS = ("openai.api_base_urls", "openai.api_keys", "openai.api_configs")


class ConnectionKeys:
    """Hashes of the keys by the index of their connection; no key is kept."""

    def __init__(self) -> None:
        self._hashes: dict[int, str] = {}
        self._read_at: float | None = None
        self._wait_until = 0.0
        self._reading: asyncio.Future[Mapping[str, Any]] | None = None

    async def hash_of(self, index: int | None) -> str:
        """Return the hash of the key of a connection, `none` where the host cannot tell."""
        if index is None:
            return NO_KEY
        if self._reading is None and (
            self._read_at is None or time.monotonic() - self._read_at > _FRESH_SECONDS
        ):
            self._begin_to_read()
        if self._reading is not None:
            await self._take(self._reading)
        return self._hashes.get(index, NO_KEY)

    def _begin_to_read(self) -> None:
        config = getattr(sys.modules.get("open_webui.models.config"), "Config", None)
        if config is not None:
            self._reading = asyncio.ensure_future(config.get_many(*_SETTINGS))
            self._read_at = time.monotonic()
            self._wait_until = self._read_at + _WAIT_SECONDS

    async def _take(self, reading: asyncio.Future[Mapping[str, Any]]) -> None:
        """Take what was read; keep the known hashes when that fails or exceeds its timeout.

        All answers that begin meanwhile wait for the same reading, with one deadline.
        """
        seconds = self._wait_until - time.monotonic()
        if not reading.done() and seconds > 0:
            await asyncio.wait({reading}, timeout=seconds)
        if reading.done() and reading is self._reading:
            self._reading = None
            if not reading.cancelled() and reading.exception() is None:
                self._hashes = _key_hashes(reading.result())


def connection_index(metadata: Mapping[str, Any]) -> int | None:
    """Return the connection of the model that answers, also behind a preset or an arena."""
    record = json_object(metadata.get("model"))
    behind = short_text(metadata.get("selected_model_id")) or short_text(
        json_object(record.get("info")).get("base_model_id")
    )
    if behind:
        record = host_model(behind)
    index = record.get("urlIdx")
    return index if type(index) is int else None


def _key_hashes(settings: Mapping[str, Any]) -> dict[int, str]:
    urls, keys = (_listed(settings.get(name)) for name in _SETTINGS[:2])
    configs = json_object(settings.get(_SETTINGS[2]))
    return {
        index: key_hash(key)
        for index, (url, key) in enumerate(zip(urls, keys, strict=False))
        if isinstance(key, str) and key and _sends_key(configs.get(str(index), configs.get(url)))
    }


def _sends_key(config: object) -> bool:
    return json_object(config).get("auth_type") in (None, "bearer")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def host_model(model_id: str) -> dict[str, object]:
    """Return the host's record of a model, empty where it has none."""
    # A plain dict of the process; `MODELS`, which has presets too, may be one in Redis.
    state = getattr(getattr(sys.modules.get("open_webui.main"), "app", None), "state", None)
    return json_object(json_object(getattr(state, "OPENAI_MODELS", None)).get(model_id))


def host_model_record(model_id: str) -> ModelRecord | None:
    return read_model_record(host_model(model_id))
