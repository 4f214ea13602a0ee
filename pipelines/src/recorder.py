"""The recorder of one plugin: it follows the valves and takes what the hooks have to book."""

import os
import secrets
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pipelines.src.counters import Counters
from pipelines.src.settings import PluginSettings, read_settings
from pipelines.src.spool_session import Host, HostKind, Overdue, Recording
from pipelines.src.valves import UsageValves
from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.event import UsageEvent
from shared.core.rows import Row
from shared.errors import InvalidEvent, SpoolError
from shared.spool.sqlite_spool import put_within

# 250 ms in all: in a Function a hook may have waited for the host's own settings before.
WAIT_SECONDS: Mapping[HostKind, float] = {"function": 0.2, "pipeline": 0.25}
# From an organization and the time: an event and the problem of its cost, or InvalidEvent.
Draft = Callable[[str, datetime], tuple[UsageEvent, str | None]]


def nothing_overdue(_settings: PluginSettings, _now: datetime) -> Sequence[Row]:
    """Return no row: time alone makes nothing due."""
    return ()


class Recorder:
    """Keeps one recording that fits the valves, and a new one when they change.

    Nothing touches the disk and no thread starts before the first hook runs. When the plugin is
    forgotten, by a host without shutdown hook, its recording ends by itself.
    """

    def __init__(
        self,
        kind: HostKind,
        default_dir: Callable[[], Path],
        overdue: Overdue = nothing_overdue,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.counters = Counters()
        self.clock = clock
        self._wait_seconds = WAIT_SECONDS[kind]
        self._default_dir = default_dir
        self._overdue = overdue
        self._host = Host(
            kind=kind, host_id=f"{kind}-{secrets.token_hex(4)}", started_at=clock.now()
        )
        self._valves: UsageValves | None = None
        self._recording: Recording | None = None
        self._process_id = os.getpid()
        self._is_ended = False
        self._when_forgotten: weakref.finalize[[], Recorder] | None = None

    def follow(self, valves: UsageValves) -> Recording:
        """Return the recording for these valves; the host may set equal ones before every call."""
        recording = self._recording
        if recording is not None and valves is self._valves and os.getpid() == self._process_id:
            return recording
        settings = read_settings(valves, os.environ, self._default_dir())
        if recording is None or recording.settings != settings or os.getpid() != self._process_id:
            recording = self._begin(settings)
        self._valves = valves
        return recording

    def saw(self, generation_id: str) -> None:
        """Note that a chunk of an open generation came."""
        if self._recording is not None:
            self._recording.open.saw(generation_id)

    async def book(self, valves: UsageValves, draft: Draft) -> UsageEvent | None:
        """Build an event and queue it durably; return it when others may rely on it."""
        event = self._build(valves, draft)
        return event if event is not None and await self.put(valves, [event]) else None

    def note_open(self, valves: UsageValves, draft: Draft) -> None:
        """Hand the note of a generation that has begun to the spool, without waiting."""
        event = self._build(valves, draft)
        if event is not None:
            self.follow(valves).spool.track(event)

    async def put(self, valves: UsageValves, rows: Sequence[Row]) -> bool:
        """Queue rows durably; True when they are in the spool, or will be in a moment.

        Waits a moment: an answer never waits longer for a slow disk, the commit goes on.
        """
        began = time.perf_counter()
        recording = self.follow(valves)
        try:
            outcomes = await put_within(recording.spool, rows, self._wait_seconds)
        except SpoolError as error:
            if recording is not self._recording:
                # The valves changed or the plugin was replaced in this very moment.
                return await self.put(valves, rows)
            self.counters.complain("not_spooled", error)
            return False
        recording.hook_latencies.add((time.perf_counter() - began) * 1000)
        return outcomes is None or "refused" not in outcomes

    def stop(self) -> Recording | None:
        """End the recording; return it, so that the host can wait for it.

        A hook that still runs finds its spool, but no thread begins again.
        """
        self._is_ended = True
        return self._end()

    def _build(self, valves: UsageValves, draft: Draft) -> UsageEvent | None:
        settings = self.follow(valves).settings
        try:
            event, cost_problem = draft(settings.client_org_id, self.clock.now())
        except InvalidEvent as error:
            self.counters.complain(f"refused_{error.field}", error.reason)
            return None
        if cost_problem is not None:
            self.counters.complain(f"cost_{cost_problem}", f"{event.request_id} is pending")
        return event

    def _end(self) -> Recording | None:
        recording, self._recording, self._valves = self._recording, None, None
        if recording is not None:
            recording.stop()
        return recording

    def _begin(self, settings: PluginSettings) -> Recording:
        if os.getpid() == self._process_id:
            self._end()
        else:
            # A forked child is another host, and its parent's recording is not its to end.
            host_id = f"{self._host.kind}-{secrets.token_hex(4)}"
            self._host = replace(self._host, host_id=host_id, started_at=self.clock.now())
        self._process_id = os.getpid()
        for problem in settings.problems:
            self.counters.complain("wrong_setting", problem)
        recording = Recording(self._host, settings, self.clock, self.counters, self._overdue)
        if not self._is_ended:
            recording.start()
            if self._when_forgotten is not None:
                self._when_forgotten.detach()
            self._when_forgotten = weakref.finalize(self, recording.stop)
            # The process's own end is the spool's affair: its writer gives what waits a moment.
            self._when_forgotten.atexit = False
        self._recording = recording
        return recording
