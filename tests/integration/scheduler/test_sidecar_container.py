"""The container as far as it can be tried without an engine: its files, its command, its tokens."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import yaml  # type: ignore[import-untyped]

from scheduler.cli.influx_tokens import make_tokens
from shared.event_store.configured import EventStores
from shared.settings import Settings
from tests.conftest import ROOT, needs_program
from tests.support.builders import settled
from tests.support.services.influx import ORG, influx_server
from tests.support.spools import spooled
from tests.support.waiting import wait_for

COMPOSE = ROOT / "docker-compose.yml"
# Of github.com/compose-spec/compose-go v2.16.2 (Apache-2.0), without its white space.
SCHEMA = ROOT / "tests/fixtures/compose-spec.json"
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::?([-?])([^}]*))?\}")


def compose() -> Any:
    return yaml.safe_load(COMPOSE.read_text())


def instructions(word: str) -> list[str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines()]
    return [rest.strip() for first, _, rest in lines if first == word]


def test_the_compose_file_is_what_the_specification_allows() -> None:
    jsonschema_rs.validate(json.loads(SCHEMA.read_text()), compose())


@pytest.mark.service
@pytest.mark.parametrize("profile", ["influxdb", "embedded"])
def test_docker_compose_takes_the_file_with_the_example(tmp_path: Path, profile: str) -> None:
    program = needs_program("docker-compose", "run `apt-get install docker-compose`")
    example = (ROOT / ".env.example").read_text()
    filled = tmp_path / "env"
    filled.write_text(re.sub(r"=$", "=0123456789abcdef", example, flags=re.MULTILINE))
    ran = subprocess.run(
        [program, "--env-file", filled, "-f", COMPOSE, "config"],
        env={"PATH": os.environ["PATH"], "COMPOSE_PROFILES": profile},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert "0123456789abcdef" in ran.stdout


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    named = {match[0] for match in VARIABLE.findall(COMPOSE.read_text())}
    example = (ROOT / ".env.example").read_text()
    offered = set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))
    images = {"OPEN_WEBUI_IMAGE", "PIPELINES_IMAGE", "USAGE_TURNS", "USAGE_EXPECT_HOSTS"}
    assert named - offered == images | {"USAGE_DATABASE_URL"}
    assert offered - named == {"COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"}


def test_only_open_webui_and_the_sidecar_are_published_and_to_this_machine_alone() -> None:
    ports = {name: each["ports"] for name, each in compose()["services"].items() if "ports" in each}
    assert set(ports) == {"open-webui", "sidecar", "sidecar-embedded"}
    for [port] in ports.values():
        assert ":-127.0.0.1:" in port


def test_no_host_gets_a_token_of_the_event_store() -> None:
    for name in ("open-webui", "pipelines"):
        service = compose()["services"][name]
        assert not [key for key in service["environment"] if key.startswith("INFLUXDB")]
        assert service["environment"]["USAGE_DELIVER_FROM"] == "sidecar"
        assert "tokens:/tokens" not in service["volumes"]


def test_each_profile_has_one_sidecar_and_only_one_has_influxdb() -> None:
    services = compose()["services"]

    def of(profile: str) -> set[str]:
        return {
            name for name, each in services.items() if profile in each.get("profiles", [profile])
        }

    always = {"spool-folder", "open-webui", "pipelines"}
    assert of("embedded") == always | {"sidecar-embedded"}
    assert of("influxdb") == always | {"sidecar", "influxdb", "influxdb-tokens"}
    for name in ("sidecar", "sidecar-embedded"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]


def test_the_sidecar_runs_as_the_image_runs_it(tmp_path: Path) -> None:
    """As another user, from the copied files alone, on a tree that cannot be written to."""
    tree, writable = tmp_path / "app", tmp_path / "writable"
    for folder in (tree, writable / "spool", writable / "data"):
        folder.mkdir(parents=True)
    for source in [line.split()[0] for line in instructions("COPY")]:
        if (ROOT / source).is_dir():  # as .dockerignore has it
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, tree / source, ignore=ignored)
        else:
            shutil.copy(ROOT / source, tree / source)
    environment = image_environment(writable)
    for folder in [tmp_path, *tmp_path.parents[:2]]:
        folder.chmod(0o755)
    as_user = unprivileged(writable, tree)
    log = writable / "log"
    with log.open("wb") as opened:
        sidecar = subprocess.Popen(
            [*as_user, sys.executable, *json.loads(instructions("ENTRYPOINT")[0])[1:]],
            env=environment | {"USAGE_PORT": "0", "USAGE_BIND": "127.0.0.1"},
            stderr=opened,
            cwd=tree,
        )
    wait_for(lambda: "API on" in log.read_text() or sidecar.poll() is not None)
    found = re.search(r"API on (http://\S+),", log.read_text())
    assert found, log.read_text()
    check = json.loads(instructions("HEALTHCHECK")[0].partition("CMD ")[2])
    script = check[2].replace("http://127.0.0.1:8080", found[1])
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
    sidecar.send_signal(signal.SIGTERM)
    assert sidecar.wait(20) == 0
    assert not list(tree.rglob("__pycache__"))


def image_environment(writable: Path) -> dict[str, str]:
    pairs = [pair.split("=", 1) for line in instructions("ENV") for pair in line.split()]
    environment = dict(pairs) | {"PATH": os.environ["PATH"]}
    for name, value in environment.items():
        if name.startswith("USAGE_"):
            environment[name] = value.replace("/data", f"{writable}/data").replace(
                "/spool", f"{writable}/spool"
            )
    assert environment["USAGE_BIND"] == "0.0.0.0"
    return environment


def unprivileged(writable: Path, tree: Path) -> list[str]:
    for path in tree.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() != 0:
        return []
    if sys.base_prefix.startswith("/root"):
        # Nobody else may read the Python of these tests: root without its powers, then.
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    for path in [writable, *writable.rglob("*")]:
        shutil.chown(path, "nobody", "nogroup")
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


@pytest.mark.service
def test_tokens_are_made_that_write_and_read_and_nothing_else(tmp_path: Path) -> None:
    server = influx_server("2.9")
    name = f"tokens-{secrets.token_hex(4)}"
    server.bucket(name=name)
    made = make_tokens(tmp_path, server.url, ORG, name, server.token)
    write, read = made["write"].read_text(), made["read"].read_text()
    assert {path.stat().st_mode & 0o777 for path in made.values()} == {0o440}

    def codes(token: str) -> tuple[int, bool]:
        headers = {"Authorization": f"Token {token}"}
        query = {"db": name, "q": "SELECT f FROM m"}
        wrote = httpx.post(
            f"{server.url}/api/v2/write",
            params={"org": ORG, "bucket": name},
            content="m f=1",
            headers=headers,
        )
        asked = httpx.get(f"{server.url}/query", params=query, headers=headers)
        return wrote.status_code, "series" in asked.text

    assert codes(write) == (204, False)
    assert codes(read) == (403, True)
    again = make_tokens(tmp_path, server.url, ORG, name, server.token)
    assert again["write"].read_text() == write  # kept: a running sidecar has it
    made["write"].unlink()
    renewed = make_tokens(tmp_path, server.url, ORG, name, server.token)["write"].read_text()
    assert codes(renewed) == (204, False)
    assert codes(write)[0] == 401
    server.drop(name)


@pytest.mark.service
def test_the_sidecar_of_the_influxdb_profile_works_with_those_tokens(tmp_path: Path) -> None:

    server = influx_server("2.9")
    name = f"tokens-{secrets.token_hex(4)}"
    server.bucket(name=name)
    made = make_tokens(tmp_path, server.url, ORG, name, server.token)
    store = EventStores(
        Settings(
            influxdb_first_enabled=True,
            influxdb_url=server.url,
            influxdb_org=ORG,
            influxdb_bucket=name,
            influxdb_token=made["write"].read_text(),
            influxdb_read_token=made["read"].read_text(),
            influxdb_write_timeout=20_000,
            usage_store_path=tmp_path / "events.sqlite3",
        )
    )
    assert store.health().ok
    assert store.write(spooled([settled()])).accepted == [0]
    store.close()
    server.drop(name)
