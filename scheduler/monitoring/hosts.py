"""Hosts: which capturing processes are missing, silent, failing, or have a wrong clock."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from shared.core.rows import HostRow

# A host that was stopped for good is forgotten after this; until then it is reported.
_FORGOTTEN_AFTER = timedelta(hours=24)
# A successor begins while its predecessor still runs, or soon after it fell silent.
_SUCCESSION = timedelta(minutes=2)
_WELL = ("idle", "standby", "off", "spooling")


def capturing(hosts: Iterable[HostRow]) -> list[HostRow]:
    """Return all hosts but sidecars."""
    return [host for host in hosts if host.host_kind != "sidecar"]


def missing_hosts(
    hosts: Sequence[HostRow], expected: str, now: datetime, silent_after: timedelta
) -> Iterator[str]:
    """Report hosts without a heartbeat; `expected` is any, none or such as pipeline,function:2."""
    heard: Counter[str] = Counter(
        host.host_kind for host in capturing(hosts) if now - host.occurred_at <= silent_after
    )
    if expected == "any" and not heard:
        yield (
            "no plugin has reported: is the filter installed and enabled, did its host load it? "
            "It reports from its first use on (USAGE_EXPECT_HOSTS)"
        )
    for kind, count in _expected(expected):
        if heard[kind] < count:
            yield f"{count} {kind} hosts should report, {heard[kind]} did (USAGE_EXPECT_HOSTS)"


def silent_hosts(hosts: Sequence[HostRow], now: datetime, silent_after: timedelta) -> Iterator[str]:
    """Report hosts that fell silent and have no successor of their kind.

    A restarted host has a new id: each newer host succeeds one silent one.
    """
    known = sorted(capturing(hosts), key=lambda host: host.occurred_at)
    successors = sorted(known, key=lambda host: host.started_at)
    for host in known:
        age = now - host.occurred_at
        if age <= silent_after:
            continue
        follower = next((each for each in successors if _follows(each, host)), None)
        if follower is not None:
            successors.remove(follower)
        elif age <= _FORGOTTEN_AFTER:
            yield (
                f"host {host.host_id} is silent for {age.total_seconds():.0f} s: it has stopped, "
                "lost its plugin or its clock is behind"
            )


def host_troubles(
    hosts: Sequence[HostRow], now: datetime, silent_after: timedelta
) -> Iterator[str]:
    """Report what hosts with a recent heartbeat complain about."""
    for host in capturing(hosts):
        is_heard = now - host.occurred_at <= silent_after
        if is_heard and host.delivery_state not in _WELL:
            yield f"host {host.host_id} says {host.delivery_state}: {host.message}"


def clocks_ahead(hosts: Sequence[HostRow], now: datetime, slack: timedelta) -> Iterator[str]:
    """Report hosts whose heartbeats are from the future: their clock, or this one, is wrong."""
    for host in hosts:
        ahead = host.occurred_at - now
        if ahead > slack:
            yield (
                f"the clock of host {host.host_id} is {ahead.total_seconds():.0f} s ahead of "
                "this one; set them right"
            )


def _expected(setting: str) -> Iterator[tuple[str, int]]:
    if setting in ("any", "none"):
        return
    for part in setting.split(","):
        kind, _, count = part.partition(":")
        yield kind, int(count or 1)


def _follows(newer: HostRow, older: HostRow) -> bool:
    return (
        newer.host_kind == older.host_kind
        and newer.host_id != older.host_id
        and newer.started_at > older.started_at
        and newer.started_at >= older.occurred_at - _SUCCESSION
    )
