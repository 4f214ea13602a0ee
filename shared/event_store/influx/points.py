"""How points of InfluxDB become rows again."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from json import loads
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared.core.amounts import Amounts
from shared.core.event import PICO_FIELDS, UsageEvent
from shared.core.money import from_pico
from shared.core.rows import HostRow, UnmeteredRow, UserRow
from shared.core.time import from_ms
from shared.errors import InvalidEvent, Misconfigured
from shared.event_store.influx.line_protocol import derived_milliseconds
from shared.event_store.influx.query import Series
from shared.event_store.overlaps import EventIdentity
from shared.event_store.port import UsageGroup
from shared.event_store.sums import STORED

_Read = TypeVar("_Read", bound=BaseModel)


def read_events(series: Series) -> Iterator[UsageEvent]:
    """Return the events of a series of points."""
    return _read(series, UsageEvent, _money)


def read_identities(series: Series) -> Iterator[EventIdentity]:
    """Return the identities of a series of points; one that is being written may lack its id."""
    for _, request_id, *answer in series.rows:
        if answer:
            grain, chat_id, message_id = answer
            yield EventIdentity(request_id or "", grain == "turn", chat_id, message_id)
        else:
            yield EventIdentity(request_id)


def read_unmetered(series: Series) -> Iterator[UnmeteredRow]:
    """Return the unmetered rows of a series of points."""
    return _read(series, UnmeteredRow, lambda point: None)


def read_hosts(series: Series) -> Iterator[HostRow]:
    """Return the host rows of a series of points."""
    return _read(series, HostRow, _counters)


def read_users(series: Series) -> Iterator[UserRow]:
    """Return the user rows of a series of points."""
    return _read(series, UserRow, lambda point: None)


def read_group(tags: Mapping[str, str], sums: Mapping[str, Any]) -> UsageGroup:
    """Return one group of sums; `sums` holds what the query of sums names."""
    return UsageGroup(
        client_org_id=tags["client_org_id"],
        external_user=tags["external_user"],
        model=tags["model"],
        task=tags["task"],
        source=tags["source"],
        amounts=Amounts(
            events=sums["events"] - sums["parts"],
            pending=sums["events"] - sums["settled"],
            estimated=sums["estimated"],
            **{name: sums[field] for name, field in STORED.items()},
        ),
        parts=sums["parts"],
    )


def _read(
    series: Series, model: type[_Read], finish: Callable[[dict[str, Any]], None]
) -> Iterator[_Read]:
    for row in series.rows:
        values = zip(series.columns, row, strict=True)
        point = {name: value for name, value in values if value is not None}
        point.update(series.tags)
        try:
            point["occurred_at"] = _occurred_at(point)
            finish(point)
            yield model.model_validate(point)
        except (InvalidEvent, ValidationError, TypeError, ValueError) as error:
            raise Misconfigured(
                f"a point at {row[0]} is none of ours: {type(error).__name__}"
            ) from None


def _occurred_at(point: Mapping[str, Any]) -> datetime:
    at = point.get("occurred_at_ms")
    if at is None:
        at = derived_milliseconds(point["time"], point.get("request_id", ""))
    return from_ms(at)


def _money(point: dict[str, Any]) -> None:
    point.pop("cost_usd", None)
    for name, field in PICO_FIELDS.items():
        if field in point:
            point[name] = from_pico(point[field])


def _counters(point: dict[str, Any]) -> None:
    point["counters"] = loads(point.get("counters", "{}"))
