"""Migrations lead forward and back on both databases, and a later database is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from shared.errors import ConfigError
from shared.summary_db.engine import MIGRATIONS, open_engine, upgrade
from shared.summary_db.schema import metadata
from tests.support.services.postgres import DATABASES, a_database

LEGACY_VIEWS = {"client_daily_usage", "client_user_daily_usage", "client_model_daily_usage"}


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with a_database(request.param, tmp_path) as url:
        yield url


def revisions() -> list[str]:
    scripts = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    return [script.revision for script in scripts][::-1]


def step_to(url: str, revision: str, *, back: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = open_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if back else command.upgrade)(config, revision)
    engine.dispose()


def tables_and_views(url: str) -> tuple[set[str], set[str]]:
    engine = open_engine(url)
    found = inspect(engine)
    names = set(found.get_table_names()), set(found.get_view_names())
    engine.dispose()
    return names


def test_every_step_leads_forward_and_back(url: str) -> None:
    seen = []
    for revision in revisions():
        step_to(url, revision)
        seen.append(tables_and_views(url))
    assert seen[-1][1] == LEGACY_VIEWS
    for position, revision in reversed(list(enumerate(["base", *revisions()[:-1]]))):
        step_to(url, revision, back=True)
        expected = seen[position - 1] if position else ({"alembic_version"}, set())
        assert tables_and_views(url) == expected
    upgrade(url)
    assert tables_and_views(url) == seen[-1]


def test_the_migrations_make_what_the_code_reads_and_writes(url: str) -> None:
    upgrade(url)
    upgrade(url)
    engine = open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_database_of_a_later_version_is_refused(url: str) -> None:
    upgrade(url)
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="later version"):
        upgrade(url)


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = open_engine(url)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows
