"""Opening the database of summaries: SQLite or PostgreSQL by URL, with its schema up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from shared.core.folders import make_folder
from shared.errors import ConfigError, ProjectionError

SETTING = "USAGE_DATABASE_URL"
_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
MIGRATIONS = Path(__file__).parent / "migrations"
# Any number will do, as long as every writer of a PostgreSQL database uses the same one.
_WRITER_LOCK = 7_366_120_401


def open_engine(database_url: str) -> Engine:
    """Return an engine whose transactions that write come one after the other.

    The folder of a SQLite file is made. Raises ConfigError for a URL that is neither SQLite nor
    PostgreSQL, and for a folder that cannot be made.
    """
    url = driver_url(database_url)
    driver = url.drivername
    if driver == "sqlite" and url.database not in (None, "", ":memory:"):
        make_folder(SETTING, Path(str(url.database)).parent)
    try:
        engine = create_engine(url, pool_pre_ping=driver != "sqlite")
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise ConfigError(SETTING, driver, f"needs a package: {error}") from error
    if driver == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgresql)
    return engine


def driver_url(database_url: str) -> URL:
    """Return the URL with the driver that we use.

    Raises ConfigError for a URL that is neither SQLite nor PostgreSQL.
    """
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise ConfigError(SETTING, "...", "is no database URL") from error
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ConfigError(SETTING, url.drivername, "must begin with sqlite:/// or postgresql://")
    return url.set(drivername=driver)


class Transactions:
    """The transactions of one engine; raises ProjectionError for any error of the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        options: dict[str, Any] = {"usage_reads": True}
        if engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        self._readers = engine.execution_options(**options)

    @property
    def database(self) -> str:
        """What kind of database this is: `sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Begin one that only reads: it sees one state and blocks no other."""
        with as_projection_error(), self._readers.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Begin one that writes, after every other that does."""
        with as_projection_error(), self._engine.begin() as connection:
            yield connection

    def schema_is_current(self) -> bool:
        """Tell whether the schema is the one of this version."""
        head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
        with self.reading() as connection:
            return MigrationContext.configure(connection).get_current_revision() == head

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def upgrade(database_url: str) -> None:
    """Create the schema or bring an older one up to date, in one transaction.

    Raises ConfigError for a database of a later version, ProjectionError when it cannot be used.
    """
    engine = open_engine(database_url)
    try:
        upgrade_engine(engine)
    finally:
        engine.dispose()


def upgrade_engine(engine: Engine) -> None:
    """Do what `upgrade` does, on an open engine."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with as_projection_error(), engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigError(
                SETTING, engine.url.database, f"the database is of a later version: {error}"
            ) from error


@contextmanager
def as_projection_error() -> Iterator[None]:
    """Raise errors of the database as ProjectionError, without data or password."""
    try:
        yield
    except DBAPIError as error:
        reason = f"{type(error.orig).__name__}: {error.orig}".splitlines()[0]
        raise ProjectionError(f"the database of summaries: {reason}") from error
    except (SQLAlchemyError, OverflowError) as error:
        raise ProjectionError(f"the database of summaries: {type(error).__name__}") from error


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions only before writes; ours begin with the first read.
    connection.isolation_level = None
    for pragma in (
        "busy_timeout = 30000",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("usage_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    if not connection.get_execution_options().get("usage_reads"):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
