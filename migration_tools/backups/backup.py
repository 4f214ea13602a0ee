"""Backups of the database of summaries: consistent copies while it is in use, with their sums."""

import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, inspect, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from migration_tools.backups.manifest import Backups, Manifest, SavedDatabase, SavedFile
from shared.errors import MigrationError

# Columns that are added up beside the rows, so that a copy can be checked against its manifest.
_SUMMED = ("events", "total_tokens", "raw_pico_usd", "billed_pico_usd")


def make_backup(backups: Backups, database_url: str, version: str, now: datetime) -> Manifest:
    """Copy the summaries into a new folder and describe the copy.

    Raises MigrationError when that is not possible; nothing is left behind but the folder.
    """
    manifest = empty_backup(backups, version, now)
    folder = backups.path(manifest.backup_id)
    url = make_url(database_url)
    if url.drivername.startswith("sqlite"):
        copy, database = _copy_sqlite(url, folder)
    else:
        copy, database = _dump_postgresql(url, folder)
    saved = SavedFile(name=copy.name, bytes=copy.stat().st_size, sha256=_sha256(copy))
    return backups.save(manifest.model_copy(update={"database": database, "files": [saved]}))


def empty_backup(backups: Backups, version: str, now: datetime) -> Manifest:
    """Take the next free id and make its folder, readable by its owner alone."""
    while True:
        backup_id = f"backup_{now.astimezone(UTC):%Y%m%d_%H%M%S}"
        try:
            backups.path(backup_id).mkdir(parents=True, mode=0o700)
        except FileExistsError:
            now += timedelta(seconds=1)
        except OSError as error:
            raise MigrationError(
                f"no backup can be made in {backups.folder}: {error.strerror}"
            ) from error
        else:
            return Manifest(backup_id=backup_id, created_at=now, version=version)


def check_files(backups: Backups, manifest: Manifest) -> list[str]:
    """Return what is wrong with the files of a backup."""
    troubles = []
    for file in manifest.files:
        path = backups.path(manifest.backup_id) / file.name
        if not path.is_file():
            troubles.append(f"{path} is missing")
        elif _sha256(path) != file.sha256:
            troubles.append(f"{path} is not what was saved")
    return troubles


def _copy_sqlite(url: URL, folder: Path) -> tuple[Path, SavedDatabase]:
    source = Path(url.database or "")
    copy = folder / "summaries.sqlite3"
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(copy)) as new,
        ):
            old.backup(new)
            new.execute("PRAGMA journal_mode=DELETE")
        copy.chmod(0o600)
        _sync(copy)
    except (sqlite3.Error, OSError) as error:
        raise MigrationError(f"{source} cannot be copied: {error}") from error
    engine = create_engine(URL.create("sqlite", database=str(copy)))
    try:
        with engine.connect() as connection:
            return copy, _describe(connection, "sqlite", sqlite3.sqlite_version)
    except SQLAlchemyError as error:
        raise MigrationError(f"{copy} cannot be read back: {type(error).__name__}") from error
    finally:
        engine.dispose()


def _dump_postgresql(url: URL, folder: Path) -> tuple[Path, SavedDatabase]:
    """Dump the snapshot in which the rows are counted, so that file and figures agree."""
    copy = folder / "summaries.dump"
    engine = create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    try:
        options = {"isolation_level": "REPEATABLE READ"}
        with engine.connect().execution_options(**options) as connection:
            snapshot = connection.scalar(text("SELECT pg_export_snapshot()"))
            version = str(connection.scalar(text("SHOW server_version")))
            database = _describe(connection, "postgresql", version)
            _run_pg_dump(url, str(snapshot), copy)
    except SQLAlchemyError as error:
        raise MigrationError(f"PostgreSQL cannot be copied: {type(error).__name__}") from error
    finally:
        engine.dispose()
    return copy, database


def _run_pg_dump(url: URL, snapshot: str, copy: Path) -> None:
    command = ["pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={copy}"]
    # The password travels by the environment: a command line can be read by everybody.
    environment = os.environ | _connection_variables(url)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise MigrationError(f"pg_dump cannot be run: {error.strerror}") from error
    if done.returncode:
        words = " ".join(done.stderr.split())[:300]
        raise MigrationError(f"pg_dump failed: {words}")
    copy.chmod(0o600)
    _sync(copy)


def _connection_variables(url: URL) -> Mapping[str, str]:
    host = url.host or str(url.query.get("host", ""))
    found = {
        "PGHOST": host,
        "PGPORT": str(url.port or ""),
        "PGUSER": url.username or "",
        "PGPASSWORD": str(url.password or ""),
        "PGDATABASE": url.database or "",
    }
    return {name: value for name, value in found.items() if value}


def _describe(connection: Connection, kind: str, version: str) -> SavedDatabase:
    names = sorted(inspect(connection).get_table_names())
    rows = {name: _scalar(connection, f'SELECT count(*) FROM "{name}"') for name in names}  # noqa: S608
    sums = {name: _sum(connection, name) for name in _SUMMED} if "daily_usage" in names else {}
    revision = "none"
    if "alembic_version" in names:
        revision = str(connection.scalar(text("SELECT version_num FROM alembic_version")))
    return SavedDatabase.model_validate(
        {"kind": kind, "version": version, "schema_revision": revision, "rows": rows, "sums": sums}
    )


def _sum(connection: Connection, column: str) -> int:
    """Add whole dollars and the rest apart: a sum of picodollars may not fit 64 bits."""
    query = "SELECT coalesce(sum({0} {1} 1000000000000), 0) FROM daily_usage"
    whole, rest = (_scalar(connection, query.format(column, part)) for part in ("/", "%"))
    return whole * 10**12 + rest


def _scalar(connection: Connection, query: str) -> int:
    return int(connection.scalar(text(query)) or 0)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
