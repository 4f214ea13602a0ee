"""What an admin does in Open WebUI, through the same endpoints as its admin pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_EVERYBODY = [{"principal_type": "user", "principal_id": "*", "permission": "read"}]
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A connection of Open WebUI to an OpenAI-compatible server."""

    url: str
    key: str
    tags: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    api_type: str = ""

    def settings(self) -> dict[str, Any]:
        """Return the connection's own settings in Open WebUI's form."""
        return {
            "enable": True,
            "tags": [{"name": tag} for tag in self.tags],
            "prefix_id": self.prefix,
            "api_type": self.api_type,
            "model_ids": [],
            "connection_type": "external",
            "auth_type": "bearer",
            "headers": dict(self.headers),
        }


@dataclass(frozen=True, kw_only=True)
class Person:
    """A user who can sign in."""

    name: str
    email: str
    password: str
    user_id: str
    token: str


def open_client(url: str, token: str = "") -> httpx.Client:
    """Return a client of one person; proxies of the environment are not used."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=False)


def sign_up(url: str, name: str, email: str, password: str) -> Person:
    """Create an account by Open WebUI's sign-up form; the first one becomes the admin."""
    with open_client(url) as client:
        body = {"name": name, "email": email, "password": password}
        answer = _ok(client.post("/api/v1/auths/signup", json=body))
    return Person(
        name=name, email=email, password=password, user_id=answer["id"], token=answer["token"]
    )


class Admin:
    """The admin pages of one Open WebUI."""

    def __init__(self, url: str, person: Person) -> None:
        self.person = person
        self._client = open_client(url, person.token)

    def close(self) -> None:
        self._client.close()

    def add_user(self, name: str, email: str, password: str) -> Person:
        body = {"name": name, "email": email, "password": password, "role": "user"}
        answer = self.post("/api/v1/auths/add", body)
        return Person(
            name=name, email=email, password=password, user_id=answer["id"], token=answer["token"]
        )

    def connect(self, connections: Sequence[Connection]) -> None:
        """Replace all connections and load their models."""
        body = {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": [connection.url for connection in connections],
            "OPENAI_API_KEYS": [connection.key for connection in connections],
            "OPENAI_API_CONFIGS": {
                str(index): connection.settings() for index, connection in enumerate(connections)
            },
        }
        self.post("/openai/config/update", body)
        self.load_models()

    def load_models(self) -> list[str]:
        """Reload the model list, as any page does; only then filters of Pipelines appear."""
        answer = _ok(self._client.get("/api/models", params={"refresh": "true"}))
        return [model["id"] for model in answer["data"]]

    def upload_pipeline(self, connection_index: int, plugin: Path) -> None:
        """Upload a plugin to a Pipelines server; raises when the server did not keep it.

        The server answers "uploaded successfully" even when loading failed: only its list tells.
        """
        with plugin.open("rb") as file:
            answer = self._client.post(
                "/api/v1/pipelines/upload",
                data={"urlIdx": str(connection_index)},
                files={"file": (plugin.name, file, "text/x-python")},
            )
        _ok(answer)
        if plugin.stem not in self.pipelines(connection_index):
            raise RuntimeError(f"the Pipelines server did not load {plugin.name}")
        self.load_models()

    def pipelines(self, connection_index: int) -> list[str]:
        answer = _ok(self._client.get("/api/v1/pipelines/", params={"urlIdx": connection_index}))
        return [pipeline["id"] for pipeline in answer["data"]]

    def delete_pipeline(self, connection_index: int, pipeline_id: str) -> None:
        body = {"id": pipeline_id, "urlIdx": connection_index}
        _ok(self._client.request("DELETE", "/api/v1/pipelines/delete", json=body))
        self.load_models()

    def set_pipeline_valves(
        self, connection_index: int, pipeline_id: str, valves: Mapping[str, Any]
    ) -> None:
        """Replace all valves of a plugin; one that is left out is reset to its default."""
        path = f"/api/v1/pipelines/{pipeline_id}/valves/update?urlIdx={connection_index}"
        self.post(path, dict(valves))

    def create_function(
        self, function_id: str, plugin: Path, valves: Mapping[str, Any] | None = None
    ) -> None:
        """Create a Function, switch it on and make it global: it arrives switched off."""
        self.post("/api/v1/functions/create", _function_body(function_id, plugin.read_text()))
        if valves is not None:
            self.post(f"/api/v1/functions/id/{function_id}/valves/update", dict(valves))
        self.toggle_function(function_id)
        self.post(f"/api/v1/functions/id/{function_id}/toggle/global", {})

    def toggle_function(self, function_id: str) -> None:
        """Switch a Function on, or off when it is on."""
        self.post(f"/api/v1/functions/id/{function_id}/toggle", {})

    def update_function(self, function_id: str, source: str) -> None:
        """Save a Function again, as the editor's Save button does."""
        path = f"/api/v1/functions/id/{function_id}/update"
        self.post(path, _function_body(function_id, source))

    def delete_function(self, function_id: str) -> None:
        _ok(self._client.delete(f"/api/v1/functions/id/{function_id}/delete"))

    def create_tool(self, tool_id: str, source: str) -> None:
        """Create a tool that all users may use."""
        body = {
            "id": tool_id,
            "name": tool_id.replace("_", " ").title(),
            "content": source,
            "meta": {"description": "A tool of the mock."},
            "access_grants": _EVERYBODY,
        }
        self.post("/api/v1/tools/create", body)

    def create_preset(self, model_id: str, name: str, base_model_id: str | None) -> None:
        body = {
            "id": model_id,
            "name": name,
            "base_model_id": base_model_id,
            "meta": {"description": "A preset of the mock."},
            "params": {},
            "access_grants": _EVERYBODY,
        }
        self.post("/api/v1/models/create", body)
        self.load_models()

    def share_model(self, model_id: str, name: str) -> None:
        """Share a model of a connection with all users: only then they have actions on it."""
        self.create_preset(model_id, name, None)

    def unshare_model(self, model_id: str) -> None:
        self.post("/api/v1/models/model/delete", {"id": model_id})
        self.load_models()

    def create_arena(self, arena_id: str, name: str, model_ids: Sequence[str]) -> None:
        """Create an arena: a random one of the models for each answer."""
        meta = {"model_ids": list(model_ids), "access_grants": _EVERYBODY}
        arena = {"id": arena_id, "name": name, "meta": meta}
        body = {"ENABLE_EVALUATION_ARENA_MODELS": True, "EVALUATION_ARENA_MODELS": [arena]}
        self.post("/api/v1/evaluations/config", body)
        self.load_models()

    def create_channel(self, name: str, user_ids: Sequence[str]) -> str:
        """Create a channel with these members and return its id."""
        body = {"name": name, "type": "group", "user_ids": list(user_ids)}
        channel_id: str = self.post("/api/v1/channels/create", body)["id"]
        return channel_id

    def running_tasks(self) -> list[str]:
        """Return the ids of the answers in progress."""
        tasks: list[str] = _ok(self._client.get("/api/tasks"))["tasks"]
        return tasks

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post to an admin endpoint; raises RuntimeError with Open WebUI's message."""
        return _ok(self._client.post(path, json=dict(body)))


def _function_body(function_id: str, source: str) -> dict[str, Any]:
    return {
        "id": function_id,
        "name": function_id.replace("_", " ").title(),
        "content": source,
        "meta": {"description": "Books what OpenRouter bills."},
    }


def _ok(answer: httpx.Response) -> Any:
    if answer.is_error:
        where = f"{answer.request.method} {answer.request.url.path}"
        raise RuntimeError(f"{where} answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()
