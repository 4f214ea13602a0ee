"""The operator's commands on spool files: status, dead letters, replay, export."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from scheduler.cli.console import OUT, fail
from scheduler.process.drain import spool_files
from scheduler.process.sidecar import spool_settings
from shared.core.rows import HostRow
from shared.errors import UsageError
from shared.settings import Settings
from shared.spool.port import SpoolStatus
from shared.spool.sqlite_spool import SqliteSpool

_DATABASE_HEADER = b"SQLite format 3\0"

app = typer.Typer(no_args_is_help=True, help="Look into spools, on any path, while hosts run.")

Paths = Annotated[
    list[Path] | None,
    typer.Argument(help="spool files; without any, all of USAGE_SPOOL_DIR", show_default=False),
]


@contextmanager
def _error_messages() -> Iterator[None]:
    """End on an error with its message: a spool is opened lazily, within a command."""
    try:
        yield
    except UsageError as error:
        fail(str(error))


@app.command()
@_error_messages()
def status(paths: Paths = None) -> None:
    """Print what waits, what was put aside and why, and what each host says of itself."""
    for spool in _opened(paths):
        _print_status(spool.path, spool.status())
        _print_hosts(spool.hosts())


@app.command(name="dead-letters")
@_error_messages()
def dead_letters(paths: Paths = None) -> None:
    """Print the rows that were put aside, with the server's words or the reason."""
    table = Table("spool", "row", "kind", "state", "request_id", "attempts", "why")
    for spool in _opened(paths):
        for letter in spool.dead_letters():
            table.add_row(
                spool.path.name,
                str(letter.row_id),
                letter.kind,
                letter.state,
                letter.request_id,
                str(letter.attempts),
                letter.message,
            )
    OUT.print(table if table.row_count else "no dead letters")


@app.command()
@_error_messages()
def replay(paths: Paths = None) -> None:
    """Queue again what was put aside; a row that the store has by now stays one row."""
    for spool in _opened(paths):
        OUT.print(f"{spool.path}: {spool.replay()} rows queued again")


@app.command()
@_error_messages()
def export(paths: Paths = None) -> None:
    """Write every row that is in the files, whatever its state, as lines of JSON."""
    for spool in _opened(paths):
        for line in spool.export():
            sys.stdout.write(line + "\n")


def _opened(paths: list[Path] | None) -> Iterator[SqliteSpool]:
    settings = Settings.load()
    for path in paths or spool_files(settings.usage_spool_dir):
        if not path.is_file():
            fail(f"{path}: no such spool")
        if not _is_database(path):
            fail(f"{path}: this is no spool; it was left as it is")
        with closing(SqliteSpool(path, settings=spool_settings(settings))) as spool:
            yield spool
    if not paths and not spool_files(settings.usage_spool_dir):
        OUT.print(f"no spool in {settings.usage_spool_dir.resolve()} (USAGE_SPOOL_DIR)")


def _is_database(path: Path) -> bool:
    """Tell whether a file begins as SQLite's do.

    Opened as a spool, any other would be taken for a damaged one and moved away: a pattern such as
    `spool/*` names the log of a spool and its lock too.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(_DATABASE_HEADER)) == _DATABASE_HEADER
    except OSError as error:
        fail(f"{path}: {error.strerror}")


def _print_status(path: Path, status: SpoolStatus) -> None:
    table = Table(title=str(path), title_justify="left", show_header=False)
    oldest = status.oldest_queued_at
    age = "" if oldest is None else f", the oldest for {_ago(oldest)}"
    used = 100 * status.size_bytes / status.size_limit_bytes
    table.add_row("queued", f"{status.queued}{age}")
    table.add_row("dead letters", str(status.dead_letters))
    table.add_row("quarantined", str(status.quarantined))
    table.add_row("open generations", str(status.open_generations))
    table.add_row("size", f"{status.size_bytes / 1024**2:.1f} MB, {used:.1f} % of the limit")
    for reason, count in sorted(status.counters.items()):
        table.add_row(reason, str(count))
    OUT.print(table)


def _print_hosts(hosts: list[HostRow]) -> None:
    if not hosts:
        return
    table = Table("host", "kind", "version", "seen", "delivery", "message")
    for host in hosts:
        table.add_row(
            host.host_id,
            host.host_kind,
            host.version,
            _ago(host.occurred_at) + " ago",
            host.delivery_state,
            host.message,
        )
    OUT.print(table)


def _ago(then: datetime) -> str:
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
