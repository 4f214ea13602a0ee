"""The sidecar under fire, and its commands as an operator gives them."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from demo.processes import free_port
from demo.sidecar import SUMMARIES_FILE, run_scheduler, sidecar_environment, sidecar_server


class Sidecar:
    """`python -m scheduler run` in a folder of its own, started as often as it is ended."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._summaries = folder / SUMMARIES_FILE
        self.environment = sidecar_environment(folder, USAGE_PORT=str(free_port()), **environment)
        self._server = sidecar_server(folder, self.environment)

    def start(self) -> None:
        """Start the process; it is ready when it delivers."""
        self._server.start()

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._server.kill()

    def stop(self) -> None:
        """End the process politely."""
        self._server.stop()

    def booked_usd(self) -> Decimal:
        """Return what all summaries add up to, read from their file."""
        with closing(sqlite3.connect(self._summaries)) as db:
            pico = db.execute("SELECT sum(raw_pico_usd) FROM daily_usage").fetchone()[0]
        return Decimal(pico or 0) * Decimal("1e-12")

    def log(self) -> str:
        """Return what the process printed."""
        return self._server.log_tail(200)


def scheduler(environment: Mapping[str, str], *arguments: str, is_refused: bool = False) -> str:
    """Run a command of the sidecar; return what it printed."""
    code, said = run_scheduler(environment, *arguments)
    assert (code != 0) == is_refused, said
    return said
