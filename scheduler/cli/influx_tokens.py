"""Tokens of InfluxDB 2.x for the sidecar: one that only writes and one that only reads."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import typer

from scheduler.cli.console import OUT, fail

Action = Literal["write", "read"]
_ACTIONS: tuple[Action, ...] = ("write", "read")
_DESCRIPTION = "usage ledger: may only {action}"
_MODE = 0o440


def make_tokens(
    folder: Path, url: str, org: str, bucket: str, admin_token: str
) -> dict[Action, Path]:
    """Write one file per token into a folder and return them; tokens that work are kept.

    InfluxDB shows a token once, when it is made: where its file is gone, a new one takes its place
    and the old one is revoked. Raises httpx.HTTPError, LookupError and OSError.
    """
    headers = {"Authorization": f"Token {admin_token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        return {
            action: _kept_or_made(client, folder / action, (org, bucket, action))
            for action in _ACTIONS
        }


def influx_tokens(
    folder: Annotated[Path, typer.Argument(help="where the files `write` and `read` go")],
    url: Annotated[str, typer.Option(envvar="INFLUXDB_URL")],
    org: Annotated[str, typer.Option(envvar="INFLUXDB_ORG")],
    bucket: Annotated[str, typer.Option(envvar="INFLUXDB_BUCKET")],
    admin_token: Annotated[str, typer.Option(envvar="INFLUXDB_ADMIN_TOKEN", show_default=False)],
) -> None:
    """Make a token that may only write and one that may only read, beside a new InfluxDB 2.x."""
    try:
        made = make_tokens(folder, url, org, bucket, admin_token)
    except (httpx.HTTPError, LookupError, OSError) as error:
        fail(f"no tokens were made: {error}")
    OUT.print("tokens are in " + ", ".join(str(path) for path in made.values()))


def _kept_or_made(client: httpx.Client, file: Path, what: tuple[str, str, Action]) -> Path:
    org, bucket, action = what
    bucket_id, org_id = _ids(client, org, bucket)
    known = _known(client, org, action)
    if file.is_file() and known and _works(client, file.read_text()):
        return file
    for one in known:
        client.delete(f"/api/v2/authorizations/{one['id']}").raise_for_status()
    resource = {"type": "buckets", "id": bucket_id, "orgID": org_id}
    body = {
        "orgID": org_id,
        "description": _DESCRIPTION.format(action=action),
        "permissions": [{"action": action, "resource": resource}],
    }
    made = client.post("/api/v2/authorizations", json=body).raise_for_status().json()
    _write(file, made["token"])
    return file


def _ids(client: httpx.Client, org: str, bucket: str) -> tuple[str, str]:
    found = _get(client, "buckets", org=org, name=bucket)["buckets"]
    if len(found) != 1:
        raise LookupError(f"organization {org!r} has no bucket {bucket!r}")
    return found[0]["id"], found[0]["orgID"]


def _known(client: httpx.Client, org: str, action: Action) -> list[Any]:
    wanted = _DESCRIPTION.format(action=action)
    found = _get(client, "authorizations", org=org)["authorizations"]
    return [one for one in found if one["description"] == wanted]


def _works(client: httpx.Client, token: str) -> bool:
    """Tell whether a token is known at all; its permissions were set when it was made."""
    headers = {"Authorization": f"Token {token}"}
    return client.get("/api/v2/buckets", headers=headers).status_code != 401


def _get(client: httpx.Client, path: str, **query: str) -> Any:
    return client.get(f"/api/v2/{path}", params=query).raise_for_status().json()


def _write(file: Path, token: str) -> None:
    """Write a token atomically."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(token)
    new.replace(file)
