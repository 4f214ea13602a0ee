"""Whatever the client's libraries raise becomes one of our decisions."""

from email.message import Message
from typing import Any

import pytest
import urllib3.exceptions
from influxdb_client import rest

from shared.errors import DeliveryError, Misconfigured, Unavailable
from shared.event_store.influx.write import InfluxSettings, InfluxSink, _client_errors_mapped
from tests.support.spools import spooled

ApiException: Any = rest.ApiException
URLLIB3 = [
    thing
    for thing in vars(urllib3.exceptions).values()
    if isinstance(thing, type)
    and issubclass(thing, Exception)
    and issubclass(thing, urllib3.exceptions.HTTPError)
    and not issubclass(thing, Warning)
]


@pytest.mark.parametrize("error", URLLIB3)
def test_every_error_of_urllib3_is_a_decision(error: type[Exception]) -> None:
    assert len(URLLIB3) > 20
    with pytest.raises((Unavailable, Misconfigured)), _client_errors_mapped():
        spoken: Any = type(error.__name__, (error,), {"__str__": lambda self: "said"})
        raise spoken.__new__(spoken)


@pytest.mark.parametrize(
    "error", [OSError, ConnectionResetError, BrokenPipeError, TimeoutError, PermissionError]
)
def test_every_error_of_the_network_is_a_decision(error: type[Exception]) -> None:
    with pytest.raises(Unavailable), _client_errors_mapped():
        raise error("away")


@pytest.mark.parametrize("status", [None, 0, *range(300, 600)])
def test_every_answer_of_the_client_is_a_decision(status: int | None) -> None:
    with pytest.raises(DeliveryError), _client_errors_mapped():
        raise ApiException(status=status, reason="because")


@pytest.mark.parametrize("body", [b"\xff broken", "text", None])
def test_an_answer_in_no_known_encoding_is_a_decision_too(body: object) -> None:
    error = ApiException(status=503, reason="busy")
    error.body, error.headers = body, Message()
    with pytest.raises(Unavailable), _client_errors_mapped():
        raise error


def test_a_certificate_that_is_not_trusted_is_for_a_person_to_mend() -> None:
    said = "SSLError\n[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"
    with pytest.raises(Misconfigured, match="TLS to InfluxDB failed"), _client_errors_mapped():
        raise ApiException(status=0, reason=said)
    with pytest.raises(Unavailable), _client_errors_mapped():
        raise ApiException(status=0, reason="SSLError\nUNEXPECTED_EOF_WHILE_READING")


def test_a_bug_of_ours_is_not_mistaken_for_the_network() -> None:
    with pytest.raises(ZeroDivisionError), _client_errors_mapped():
        raise ZeroDivisionError


def test_a_batch_of_nothing_asks_no_server() -> None:
    sink = InfluxSink(InfluxSettings(url="http://127.0.0.1:1", token="t", org="o", bucket="b"))
    assert sink.write(spooled([])).accepted == []
