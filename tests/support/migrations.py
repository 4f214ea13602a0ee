"""A ledger on disk for the tests of migrations, driven by the commands an admin types."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from migration_tools.cli import app
from migration_tools.importing.writer import PointTimes
from migration_tools.ledger import Ledger
from shared.core.event import UsageEvent
from shared.core.ids import point_time_ns
from shared.core.rows import Row
from shared.event_store.influx.write import InfluxSettings
from shared.event_store.port import Window
from shared.projection.resolution import resolve
from shared.settings import Settings
from shared.spool.port import SpooledRow
from shared.summary_db.reports import UsageFilter

EVER = Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))


@dataclass
class Lab:
    """A folder with a ledger in it; `environment` is for processes of their own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, code: int | None = 0) -> dict[str, Any]:
        """Run a command with --json and return its answer; the exit code must be the given one."""
        result = CliRunner().invoke(app, [*arguments, "--json"])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert code is None or result.exit_code == code, (result.output, result.stderr)
        return dict(json.loads(result.stdout.splitlines()[-1]))

    def ledger(self) -> Ledger:
        """Open the ledger by the settings of the commands; the caller closes it."""
        return Ledger(Settings.load())

    def put(self, events: Sequence[UsageEvent]) -> None:
        """Write events as if hosts had delivered them."""
        with self.ledger() as ledger:
            written = ledger.target.write(store_rows(events))
        assert len(written.accepted) == len(events)

    def events(self) -> list[UsageEvent]:
        """Return everything in the event store."""
        with self.ledger() as ledger:
            return list(ledger.reading.events(EVER))

    def bills(self) -> dict[str, str]:
        """Return what each request costs, in dollars."""
        return {
            bill.event.request_id: str(bill.event.cost_usd) for bill in resolve(self.events()).bills
        }

    def summaries(self, first: date, last: date) -> list[tuple[Any, ...]]:
        """Return the rows of the summaries by organization, user and model."""
        with self.ledger() as ledger:
            lines = ledger.summaries.reports.usage(
                UsageFilter(start=first, end=last),
                ("organization_id", "external_user", "model", "task"),
            )
        return [
            (
                line.group["organization_id"],
                line.group["external_user"],
                line.group["model"],
                line.amounts.total_tokens,
                line.amounts.raw_pico_usd,
            )
            for line in lines
        ]

    def summed(self) -> dict[tuple[str, str], list[int]]:
        """Return events, tokens and pico-USD of the summaries by organization and day."""
        rows = self.view(
            "SELECT organization_id, local_date, sum(events), sum(total_tokens), sum(raw_pico_usd)"
            " FROM daily_usage GROUP BY 1, 2"
        )
        return {(organization, day): sums for organization, day, *sums in rows}

    def view(self, query: str) -> list[tuple[Any, ...]]:
        """Query the database of summaries, as an old dashboard would."""
        import sqlite3

        with closing(sqlite3.connect(self.folder / "summaries.sqlite3")) as db:
            return db.execute(query).fetchall()


def store_rows(rows: Sequence[Row]) -> list[SpooledRow]:
    """Return rows as a spool would pass them to a store, each with a time of its own."""
    point_times = PointTimes()
    return [
        SpooledRow(at, row.kind, row.event_id, row.to_json(), _time_ns(point_times, row), 0)
        for at, row in enumerate(rows)
    ]


def _time_ns(point_times: PointTimes, row: Row) -> int:
    if isinstance(row, UsageEvent):
        return point_times.assign(row)
    return point_time_ns(row.event_id, "", row.occurred_at)


def lab_in(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> Lab:
    """Make a lab in a folder, with the settings in the environment of this process as well."""
    environment = {
        "USAGE_STORE_PATH": str(folder / "events.sqlite3"),
        "USAGE_DATABASE_URL": f"sqlite:///{folder}/summaries.sqlite3",
        "USAGE_BACKUP_DIR": str(folder / "backups"),
        "DATA_DIR": str(folder),
    } | settings
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Lab(folder, environment)


def influx_environment(settings: InfluxSettings) -> dict[str, str]:
    """Return the environment that sends events into a bucket."""
    return {
        "INFLUXDB_FIRST_ENABLED": "true",
        "INFLUXDB_URL": settings.url,
        "INFLUXDB_TOKEN": settings.token,
        "INFLUXDB_ORG": settings.org,
        "INFLUXDB_BUCKET": settings.bucket,
    }
