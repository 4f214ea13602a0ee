"""The InfluxQL that the event store speaks. Values are bound; only names are written into it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

from shared.core.event import PICO_FIELDS
from shared.core.time import EPOCH
from shared.event_store.influx.line_protocol import (
    FIELDS,
    MEASUREMENTS,
    TAGS,
)
from shared.event_store.port import Window
from shared.event_store.sums import STORED

_SECOND = timedelta(seconds=1)
FINGERPRINTED = ("cost_pico_usd", "total_tokens")
_IN_WINDOW = "time >= $start AND time < $end"
# Every event has this field and it is the same in all: to count 1 M ids took 1.4 s, this 0.2 s.
_COUNT = 'count("schema_version")'
_PATTERN_SIGNS = re.compile(r"[\\.+*?()|\[\]{}^$/]")
# InfluxDB reads no form of more than 10 MB: it answers as if nothing was asked. As a form writes
# them 20 000 usual ids are 1.7 MB; of 160 letters that are not ASCII they would be 17 MB and more.
_VALUES_PER_PATTERN = 20_000
_PATTERN_BYTES = 2 * 1024**2
_GRAIN = "client_org_id, external_user, model, task, source"


class Queries:
    """The queries about one measurement of usage events; windows are bound as `start` and `end`."""

    def __init__(self, measurement: str) -> None:
        self.usage = quote_name(measurement)
        source = f"FROM {self.usage} WHERE"
        self.sums = (
            f'SELECT {_COUNT} AS events, count("cost_pico_usd") AS settled, '
            f'count("estimated_pico_usd") AS estimated, sum("part") AS parts, '
            f"{_each('sum', STORED.values())} {source} {_IN_WINDOW} GROUP BY {_GRAIN}"
        )
        self.fingerprints = (
            f"SELECT {_COUNT} AS events, {_each('sum', FINGERPRINTED)} "
            f"{source} {_IN_WINDOW} GROUP BY time(15m) fill(none)"
        )
        self.uniqueness = (
            f'SELECT {_COUNT} AS events, count(distinct("request_id")) AS bills '
            f"{source} {_IN_WINDOW}"
        )
        self.sources = f"SELECT {_COUNT} AS events {source} {_IN_WINDOW} GROUP BY source"
        self.grains = f'SELECT distinct("grain") AS grain {source} {_IN_WINDOW}'
        self.bills = f'SELECT "request_id" {source} {_IN_WINDOW}'
        self.bills_of_source = f"{self.bills} AND source = $source"
        self.answers = (
            f'SELECT "request_id", "grain", "chat_id", "message_id" {source} {_IN_WINDOW}'
        )
        self.events = f"SELECT {_columns('usage')} {source} {_IN_WINDOW}"
        self.unmetered = f"{_select('unmetered')} WHERE {_IN_WINDOW}"
        self.hosts = f"{_select('host')} GROUP BY host_id ORDER BY time DESC LIMIT 1"
        self.users = f"{_select('user')} GROUP BY user_id ORDER BY time DESC LIMIT 1"
        self.tag_keys = f"SHOW TAG KEYS FROM {self.usage}"
        self.count_of_source = f"SELECT {_COUNT} {source} source = $source"

    def peaks(self, fields: Sequence[str]) -> str:
        """Select the largest values of fields in the whole window.

        Asked beside each sum they took as long as the sums themselves.
        """
        return f"SELECT {_each('max', fields)} FROM {self.usage} WHERE {_IN_WINDOW}"  # noqa: S608

    def events_by(self, field: str, values: Iterable[str]) -> Iterator[str]:
        """Select the events whose field is one of these values, in as few queries as it takes.

        By a pattern, which the server tries once per event: comparing with one value after the
        other took 20 times as long for 130 values. Sorted values share the work of what they begin
        with.
        """
        for pattern in _patterns(values):
            yield f"{self.events} AND {quote_name(field)} =~ /^(?:{pattern})$/"

    def delete_source(self, source: str) -> str:
        """Delete by tag, as 1.x does it; it takes no bound parameters."""
        return f"DELETE FROM {self.usage} WHERE source = {quote_text(source)}"  # noqa: S608

    def source_predicate(self, source: str) -> str:
        """Name the same points to the delete interface of 2.x, which quotes values like names."""
        return f"_measurement={self.usage} AND source={quote_name(source)}"

    def delete_profile(self, user_id: str) -> str:
        """Delete a user's names by tag, as 1.x does it."""
        users = quote_name(MEASUREMENTS["user"])
        return f"DELETE FROM {users} WHERE user_id = {quote_text(user_id)}"  # noqa: S608

    def profile_predicate(self, user_id: str) -> str:
        """Name the same points to the delete interface of 2.x."""
        users = quote_name(MEASUREMENTS["user"])
        return f"_measurement={users} AND user_id={quote_name(user_id)}"


def quote_name(name: str) -> str:
    """Quote the name of a measurement, a field or a tag."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def quote_text(text: str) -> str:
    """Quote a text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quote_pattern(text: str) -> str:
    """Quote a text inside of a pattern, whose end is a slash."""
    return _PATTERN_SIGNS.sub(r"\\\g<0>", text)


def _patterns(values: Iterable[str]) -> Iterator[str]:
    """Return patterns for values, each of a size that a request can hold."""
    quoted: list[str] = []
    size = 0
    for text in map(_quote_pattern, sorted(values)):
        length = len(quote_plus(text)) + len("%7C")
        if quoted and (size + length > _PATTERN_BYTES or len(quoted) == _VALUES_PER_PATTERN):
            yield "|".join(quoted)
            quoted, size = [], 0
        quoted.append(text)
        size += length
    if quoted:
        yield "|".join(quoted)


def _select(kind: str) -> str:
    return f"SELECT {_columns(kind)} FROM {MEASUREMENTS[kind]}"  # noqa: S608


def _columns(kind: str) -> str:
    fields = [*FIELDS[kind]]
    if kind == "usage":
        fields += [*PICO_FIELDS.values(), "is_byok"]
    elif kind == "host":
        fields.append("counters")
    return ", ".join(map(quote_name, (*fields, *TAGS[kind])))


def _each(function: str, fields: Iterable[str]) -> str:
    return ", ".join(f"{function}({quote_name(field)}) AS {field}" for field in fields)


def is_on_seconds(window: Window) -> bool:
    """Tell whether no event's second is cut: a point's time says no more than the second."""
    return window == outward(window)


def outward(window: Window) -> Window:
    """Widen a window to whole seconds."""
    start = window.start - (window.start - EPOCH) % _SECOND
    return Window(start, window.end + (EPOCH - window.end) % _SECOND)


def bounds(window: Window) -> dict[str, str]:
    """Return the values that a query about a window is bound to."""
    return {"start": _instant(window.start), "end": _instant(window.end)}


def _instant(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
