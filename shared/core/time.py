"""Instants as the stores count them: whole milliseconds of UTC since 1970."""

from datetime import UTC, datetime, timedelta

from shared.errors import ConfigError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def to_ms(instant: datetime) -> int:
    """Return the whole milliseconds since 1970, rounded down."""
    return (instant - EPOCH) // MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    return EPOCH + milliseconds * MILLISECOND


def whole_second(instant: datetime) -> datetime:
    """Round down to a second of UTC: the finest cut that every event store keeps.

    A generation id has seconds only, and InfluxDB spreads the events of a second over it.
    """
    if instant.tzinfo is None:
        raise ConfigError("valid_from", instant, "needs a time zone")
    return instant.astimezone(UTC).replace(microsecond=0)
