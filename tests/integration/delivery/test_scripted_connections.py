"""Delivery over connections that break, to addresses that are none, and what a request says."""

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from shared.event_store.influx.write import InfluxSettings
from tests.support.services.delivering import Delivering, numbers
from tests.support.services.scripted import ScriptedInflux, broken_server, message, says


@pytest.fixture
def influx(httpserver: HTTPServer) -> ScriptedInflux:
    """A server that takes everything until it is told otherwise."""
    return ScriptedInflux(httpserver)


@pytest.mark.parametrize(
    "spoken",
    [
        [],
        [b"HTTP/1.1 20"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"],
        [b"HTTP/1.1 400 Bad\r\nContent-Length: 900\r\n\r\n{"],
        [b"SSH-2.0-OpenSSH_9.2\r\n"],
    ],
    ids=["silence", "half a head", "half a body", "half a refusal", "no http"],
)
@pytest.mark.parametrize("resets", [False, True])
def test_a_connection_that_breaks_keeps_the_rows(spoken: list[bytes], resets: bool) -> None:
    with broken_server(*spoken, resets=resets) as url:
        settings = InfluxSettings(url=url, token="t", org="o", bucket="b", write_timeout_ms=100)
        at = Delivering(settings, rows=2)
        result = at.delivery.run_once()
    assert (result.state, result.kept) == ("unavailable", 2)
    assert at.spool.dead == {}


def test_a_closed_port_keeps_the_rows() -> None:
    with broken_server() as url:
        pass
    at = Delivering(InfluxSettings(url=url, token="t", org="o", bucket="b"), rows=2)
    assert at.delivery.run_once().state == "unavailable"
    assert "refused" in at.delivery.status().message


@pytest.mark.parametrize("url", ["http://", "no address", "http://[::1", "ftp://127.0.0.1"])
def test_an_address_that_is_none_is_a_wrong_setting(url: str) -> None:
    at = Delivering(InfluxSettings(url=url, token="t", org="o", bucket="b"), rows=2)
    assert at.delivery.run_once().state == "misconfigured"


def test_the_token_is_never_part_of_what_is_said(influx: ScriptedInflux) -> None:
    influx.answer = lambda lines: says(401, message("unauthorized access"))
    settings = influx.settings()
    at = Delivering(settings)
    said = at.delivery.run_once().message
    assert said == "401: unauthorized access"
    assert "secret-token" not in repr(settings)
    assert influx.writes[0].headers["Authorization"] == "Token secret-token"


def test_a_request_names_organization_bucket_and_precision(influx: ScriptedInflux) -> None:
    Delivering(influx.settings()).delivery.run_once()
    assert influx.writes[0].args.to_dict() == {
        "org": "org",
        "bucket": "usage/autogen",
        "precision": "ns",
    }
    assert "Content-Encoding" not in influx.writes[0].headers  # loopback


def test_a_batch_for_another_machine_is_compressed(influx: ScriptedInflux) -> None:
    # 0.0.0.0 leads here as well, and is not spelled like the machine itself.
    elsewhere = influx.settings(url=f"http://0.0.0.0:{influx.server.port}")
    assert Delivering(elsewhere).delivery.run_once().accepted == 8
    assert influx.writes[0].headers["Content-Encoding"] == "gzip"
    assert numbers(influx.stored) == [1, 2, 3, 4, 5, 6, 7, 8]


TAG_KEYS = (
    '{"results":[{"statement_id":0,"series":[{"name":"m","columns":["tagKey"],'
    '"values":[["model"],["request_id"]]}]}]}'
)


def test_the_measurement_of_the_original_system_is_refused(influx: ScriptedInflux) -> None:
    influx.reading = lambda request: says(200, TAG_KEYS)
    at = Delivering(influx.settings(measurement='my "usage"'))
    result = at.delivery.run_once()
    assert (result.state, influx.writes) == ("misconfigured", [])
    assert "Set INFLUXDB_MEASUREMENT to a new name" in result.message
    [asked] = influx.queries
    assert asked.args["q"] == 'SHOW TAG KEYS FROM "my \\"usage\\""'
    assert (asked.args["db"], asked.args["rp"]) == ("usage", "autogen")


MAY_ONLY_WRITE = [
    says(403, '{"error":"not authorized"}'),
    says(200, '{"results":[{"statement_id":0,"error":"database not found: usage"}]}'),
    says(404, "page not found"),
    says(200, "{}"),
]


@pytest.mark.parametrize("answer", MAY_ONLY_WRITE)
def test_a_token_that_may_only_write_writes_anywhere_but_under_the_original_name(
    influx: ScriptedInflux, answer: Response
) -> None:
    influx.reading = lambda request: answer
    assert Delivering(influx.settings()).delivery.run_once().accepted == 8
    at = Delivering(influx.settings(measurement="usage_tracking"))
    assert at.delivery.run_once().state == "misconfigured"


def test_the_measurement_is_looked_at_once(influx: ScriptedInflux) -> None:
    Delivering(influx.settings()).delivery.run_once()
    assert (len(influx.queries), len(influx.writes)) == (1, 2)
