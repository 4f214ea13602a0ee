"""The models of this Open WebUI, by its own table of what its connections offer."""

import sys

from shared.capture.openwebui import ModelRecord, json_object, read_model_record


def host_model(model_id: str) -> dict[str, object]:
    """Return the record of a model as the host keeps it, empty where it keeps none."""
    # A plain dict of the process; `MODELS`, which has presets too, may be one in Redis.
    state = getattr(getattr(sys.modules.get("open_webui.main"), "app", None), "state", None)
    return json_object(json_object(getattr(state, "OPENAI_MODELS", None)).get(model_id))


def host_model_record(model_id: str) -> ModelRecord | None:
    """Read that record."""
    return read_model_record(host_model(model_id))
