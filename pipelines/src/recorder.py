"""The recorder of one plugin: one spool session that fits the valves, a new one on change."""

import os
import secrets
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pipelines.src.settings import PluginSettings, read_settings
from pipelines.src.spool_session import (
    Counters,
    Host,
    HostKind,
    Overdue,
    SpoolSession,
)
from pipelines.src.valves import UsageValves
from shared.core.clock import SYSTEM_CLOCK, Clock
from shared.core.rows import Row


def nothing_overdue(_settings: PluginSettings, _now: datetime) -> Sequence[Row]:
    return ()


class Recorder:
    """Gives every hook the session for the valves of its moment.

    Nothing touches the disk and no thread starts before the first hook runs. When a host without
    shutdown hook drops the plugin, its session ends by itself.
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
        self._default_dir = default_dir
        self._overdue = overdue
        self._host = Host(
            kind=kind, host_id=f"{kind}-{secrets.token_hex(4)}", started_at=clock.now()
        )
        self._valves: UsageValves | None = None
        self._session: SpoolSession | None = None
        self._process_id = os.getpid()
        self._is_ended = False
        self._finalizer: weakref.finalize[[], Recorder] | None = None

    def session_for(self, valves: UsageValves) -> SpoolSession:
        """Return the session for these valves; the host may set equal ones before every call."""
        session = self._session
        if session is not None and valves is self._valves and os.getpid() == self._process_id:
            return session
        settings = read_settings(valves, os.environ, self._default_dir())
        if session is None or session.settings != settings or os.getpid() != self._process_id:
            session = self._begin(settings)
        self._valves = valves
        return session

    def saw(self, generation_id: str) -> None:
        """Note that a chunk of an open generation came."""
        if self._session is not None:
            self._session.open.saw(generation_id)

    def stop(self) -> SpoolSession | None:
        """End the session; return it, so that the host can wait for it.

        A hook that begins later finds its spool, but no thread begins again.
        """
        self._is_ended = True
        return self._end()

    def _end(self) -> SpoolSession | None:
        session, self._session, self._valves = self._session, None, None
        if session is not None:
            session.stop()
        return session

    def _begin(self, settings: PluginSettings) -> SpoolSession:
        if os.getpid() == self._process_id:
            self._end()
        else:
            # A forked child is another host, and its parent's session is not its to end.
            host_id = f"{self._host.kind}-{secrets.token_hex(4)}"
            self._host = replace(self._host, host_id=host_id, started_at=self.clock.now())
        self._process_id = os.getpid()
        for problem in settings.problems:
            self.counters.warn_throttled("wrong_setting", problem)
        session = SpoolSession(self._host, settings, self.clock, self.counters, self._overdue)
        if not self._is_ended:
            session.start()
            if self._finalizer is not None:
                self._finalizer.detach()
            self._finalizer = weakref.finalize(self, session.stop)
            # At the end of the process the spool's writer commits what waits.
            self._finalizer.atexit = False
        self._session = session
        return session
