"""`python -m migration_tools`: import old usage, verify it, take it out again."""

from migration_tools.cli import app

app(prog_name="python -m migration_tools")
