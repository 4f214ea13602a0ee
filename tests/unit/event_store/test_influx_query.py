"""Asking InfluxDB: what goes over the wire, and what becomes of an answer, without a server."""

from collections.abc import Iterator
from urllib.parse import parse_qs

import httpx
import pytest
import respx

from shared.errors import Misconfigured, Unavailable
from shared.event_store.influx.query import InfluxQuery
from shared.event_store.influx.write import InfluxSettings

URL = "http://influx.test:8086"
SERIES = {"name": "m", "tags": {"model": "a"}, "columns": ["time", "sum"], "values": [[0, 7]]}
WHOLE = {"results": [{"statement_id": 0, "series": [SERIES]}]}


@pytest.fixture
def query() -> Iterator[InfluxQuery]:
    settings = InfluxSettings(
        url=URL, token="write", read_token="read", org="o", bucket="usage/forever"
    )
    asked = InfluxQuery(settings)
    yield asked
    asked.close()


@respx.mock
def test_values_are_bound_and_the_retention_policy_is_its_own_parameter(
    query: InfluxQuery,
) -> None:
    route = respx.post(f"{URL}/query").respond(json=WHOLE)
    [series] = query.ask("SELECT sum(x) FROM m WHERE u = $u", {"u": "a' OR 'b"})
    assert (series.tags, series.rows) == ({"model": "a"}, [[0, 7]])
    sent = route.calls.last.request
    form = {name: values[0] for name, values in parse_qs(sent.content.decode()).items()}
    assert (form["db"], form["rp"], form["epoch"]) == ("usage", "forever", "ns")
    assert form["params"] == '{"u": "a\' OR \'b"}'
    assert "OR" not in form["q"]
    assert sent.headers["Authorization"] == "Token read"


@respx.mock
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            httpx.Response(200, json={"results": [{"error": "database not found: x"}]}),
            Misconfigured,
        ),
        (httpx.Response(200, json={"results": [{"error": "timeout"}]}), Unavailable),
        (httpx.Response(200, json={"results": [{"partial": True}]}), Unavailable),
        (httpx.Response(200, text='{"results": [{"ser'), Unavailable),
        (httpx.Response(200, text="<html>a proxy</html>"), Misconfigured),
        (httpx.Response(200, json={}), Misconfigured),
        (httpx.Response(302, headers={"Location": "/login"}), Misconfigured),
        (httpx.Response(401, json={"error": "unauthorized access"}), Misconfigured),
        (httpx.Response(503, headers={"Retry-After": "7"}), Unavailable),
    ],
)
def test_nothing_but_a_whole_answer_is_an_answer(
    query: InfluxQuery, answer: httpx.Response, error: type[Exception]
) -> None:
    respx.post(f"{URL}/query").mock(return_value=answer)
    with pytest.raises(error):
        query.ask("SELECT 1 FROM m")


@respx.mock
def test_a_dropped_connection_is_a_store_that_is_away(query: InfluxQuery) -> None:
    respx.post(f"{URL}/query").mock(side_effect=httpx.ReadError("reset by peer"))
    with pytest.raises(Unavailable, match="reset by peer"):
        query.ask("SELECT 1 FROM m")


@respx.mock
@pytest.mark.parametrize(("status", "deleted"), [(204, True), (404, False), (405, False)])
def test_a_server_without_the_interface_to_delete_is_told_apart(
    query: InfluxQuery, status: int, deleted: bool
) -> None:
    route = respx.post(f"{URL}/api/v2/delete").respond(status, text="404 page not found")
    assert query.delete('_measurement="m" AND source="import:x"') is deleted
    assert route.calls.last.request.headers["Authorization"] == "Token write"
